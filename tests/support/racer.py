"""One of several processes that post messages to one database at the same time.

``python -m support.racer URL FILE``: reads lines of compact messages, one batch a line, waits for a line on standard
input, posts every batch, and prints the replies of each as JSON.
"""

import json
import sys
from pathlib import Path

from support.office import Office
from tallystick.activation.storage import open_store


def main() -> None:
    url, file = sys.argv[1:]
    batches = [line.split() for line in Path(file).read_text("ascii").splitlines()]
    office = Office(open_store(url))
    _say("ready")
    sys.stdin.readline()
    for batch in batches:
        _say(json.dumps([list(answer.reply) for answer in office.post(*batch)]))
    office.store.close()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
