"""The root of every error that Tallystick raises on purpose.

An error carries a stable ``code`` and says what was expected and what was seen. What to do next belongs to the code,
not to the place that raises: it stands once, in ``protocol.problems``. No error knows an HTTP status.
"""

from __future__ import annotations

from tallystick.sentences import Sentence, _


class Error(Exception):
    """Something was refused, for a reason with a stable code (protocol, section 10)."""

    def __init__(self, code: str, *, expected: str, seen: str) -> None:
        super().__init__(code, expected, seen)
        self.code = code
        self.said = (expected, seen)  # as given: sentences, which the edge words in the reader's language
        self.expected = str(expected)
        self.seen = str(seen)

    @property
    def sentence(self) -> Sentence:
        """Both in one, for a person."""
        return _("expected {expected}; saw {seen}", expected=self.said[0], seen=self.said[1])

    def __str__(self) -> str:
        return f"expected {self.expected}; saw {self.seen}"


class InvariantError(Error):
    """Our own state contradicts itself. Nothing may be written after this; the process stops."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__("invariant", expected=expected, seen=seen)
