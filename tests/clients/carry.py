"""Carries files between the conformance kit and our field server's commands: what `tallystick conformance fieldserver -- PROGRAM` calls."""

import json
import subprocess
import sys
import tempfile

FIELD_SERVER = [sys.executable, "-m", "tallystick", "fieldserver"]


def main(data: str, word: str) -> int:
    if word == "outbox":
        return subprocess.run([*FIELD_SERVER, "outbox", "--data", data], check=False).returncode
    if word == "deliver":
        with tempfile.NamedTemporaryFile(suffix=".tally") as file:
            file.write(sys.stdin.buffer.read())
            file.flush()
            done = subprocess.run(
                [*FIELD_SERVER, "deliver", file.name, "--data", data], check=False, stdout=subprocess.DEVNULL
            )
            return 0 if done.returncode in {0, 1, 4} else done.returncode  # bad lines in it are told, and do no harm
    wish = json.load(sys.stdin)
    words = [f"{want.get('activation_id') or want['line']}={want['quantity']}" for want in wish.get("wants", [])]
    words += [f"--{name}" for name in ("all", "final") if wish.get(name)]
    return subprocess.run(
        [*FIELD_SERVER, "request", wish["purpose"], *words, "--data", data], check=False, stdout=subprocess.DEVNULL
    ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
