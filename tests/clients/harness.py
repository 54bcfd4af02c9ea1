"""Runs the Python reader over vectors, one a line on standard input: `tallystick conformance client --help` says how.

Not over those of kind ``files``: a program in Python reads the data directory itself (``checks.open``).
"""

import base64
import json
import sys

from tallystick.fieldserver import asking
from tallystick.protocol.answers import Question, Reader, Remembered


def content(found: dict) -> bytes:
    return found["text"].encode() if "text" in found else base64.b64decode(found["base64"])


def decide(vector: dict) -> str:
    feature, required = vector["feature"], vector["required"]
    remembered = Remembered(**vector["remembers"]) if "remembers" in vector else None
    if vector["kind"] == "socket":
        asker = asking.connect(
            vector["socket"], root=vector["roots"], deadline_seconds=vector["deadline"] / 1000, remembered=remembered
        )
        verdict, remembered = asker.check(feature, required), asker.remembered
        asker.close()
    else:
        reader = Reader(vector["roots"], remembered=remembered)
        verdict = reader.check_question(feature, required)
        if verdict is None:
            question = Question(feature=feature, required=required, nonce=vector["nonce"])
            verdict = reader.decide(question, content(vector["answer"]))
        remembered = reader.remembered
    memory = "-"
    if remembered is not None:
        memory = f"{remembered.device},{remembered.epoch},{remembered.number},{remembered.moment}"
    return f"{verdict.code} {verdict.activated} {memory}"


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{decide(json.loads(line))}\n")
        sys.stdout.flush()
