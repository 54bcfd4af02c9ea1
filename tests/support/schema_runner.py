"""schemathesis, told how a tally file is made of a string. ``python -m support.schema_runner`` is its command line."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.cli import schemathesis as command


@schemathesis.serializer("application/x-tally")
def write_tally(_context: Any, value: Any) -> bytes:
    """Any text is worth a try; some of it has the form of an envelope."""
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "surrogatepass")


if __name__ == "__main__":
    command()
