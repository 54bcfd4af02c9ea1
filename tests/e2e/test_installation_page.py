"""``docs/operations/install.md`` from nothing: its commands, as they stand there, on a machine that has no Tallystick.

The machine is this one, with everything that they change laid over: nothing outside of the test sees it. Only ``systemctl`` is
replaced, since nothing here is started by systemd: the stand-in starts what the unit says, as whom it says.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "install.md"
COMMANDS_MAX = 8
pytestmark = pytest.mark.debian

SYSTEMCTL = r"""#!/usr/bin/env python3
import pathlib, shlex, subprocess, sys, time, urllib.request
assert sys.argv[1:3] == ["enable", "--now"], sys.argv
unit = pathlib.Path(f"/etc/systemd/system/{sys.argv[3]}.service").read_text()
lines = [line.partition("=") for line in unit.splitlines() if "=" in line and line[0] != "#"]
one = {name: value for name, _, value in lines}
assert pathlib.Path(one["ConditionPathExists"]).exists()
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
environment = [value.replace("%d", "/run/credentials") for name, _, value in lines if name == "Environment"]
user = ["runuser", "-u", one["User"], "--", "env", "-i", "PATH=/usr/bin:/bin", "LANG=C", *environment]
service = subprocess.Popen([*user, *shlex.split(one["ExecStart"])])
for _ in range(600):
    try:
        print("ready:", urllib.request.urlopen("http://127.0.0.1:8470/readyz").read().decode())
        break
    except OSError:
        assert service.poll() is None, "it ended"
        time.sleep(0.2)
else:
    sys.exit("it does not answer")
service.terminate()
service.wait()
"""
MACHINE = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$WORK"
for place in /etc /opt /var/lib; do
    mkdir -p "$WORK$place/upper" "$WORK$place/work"
    mount -t overlay overlay -o "lowerdir=$place,upperdir=$WORK$place/upper,workdir=$WORK$place/work" "$place"
done
rm -rf /opt/tallystick /var/lib/tallystick
cd "$DIST"
export PATH="$STAND_INS:/usr/sbin:/usr/bin:/sbin:/bin"
"""


def blocks():
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_its_commands_install_an_activation_server_that_serves(tmp_path):
    names = ("dist", "work", "stand-ins")
    places = {name: tmp_path / name for name in names}
    for place in places.values():
        place.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tools"), "DIST": str(places["dist"])}
    subprocess.run(
        [sys.executable, "-m", "packages", "wheel"], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    stand_in = places["stand-ins"] / "systemctl"
    stand_in.write_text(SYSTEMCTL, "utf-8")
    stand_in.chmod(0o755)
    (block,) = blocks()
    commands = block.splitlines()
    assert len(commands) <= COMMANDS_MAX
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive", "--preserve-env"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYSTICK_", "PYTHON"))}
    # What is installed needs the network; what serves gets one of its own, where no other port 8470 is.
    *before, last = commands
    script = MACHINE + "\n".join(before) + f"\nunshare --net {last}\n"
    began = time.monotonic()
    done = subprocess.run(
        [*as_root, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script],
        env=kept | {"WORK": str(places["work"]), "DIST": str(places["dist"]), "STAND_INS": str(places["stand-ins"])},
        check=False,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"ready"' in done.stdout
    assert re.search(r"use the set-up code setup_\S+", done.stdout), "the page says that it is printed"
    assert not Path("/opt/tallystick").exists()
    (ROOT / "build").mkdir(exist_ok=True)
    said = f"{len(commands)} commands, {time.monotonic() - began:.0f} s\n"
    (ROOT / "build" / "installation-page.txt").write_text(said, "ascii")  # `make ci` prints it
