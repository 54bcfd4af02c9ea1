"""The demo, as a person runs it: it tells its scenes, is done in time, and leaves nothing behind."""

import contextlib
import resource
import subprocess
from pathlib import Path

from support.parties import COMMAND, TRACEBACK, surroundings

SECONDS_MAX = 60
SCENES = (
    "Activate online",
    "Return online, and activate on another field server",
    "Return semi-online",
    "Return offline",
    "Return with one carry",
    "restored from an old backup",
    "Everything is available again",
)


def test_the_demo_tells_every_scene_is_done_in_time_and_leaves_nothing_behind(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*COMMAND, "demo", "--data", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=3 * SECONDS_MAX,
        check=False,
        cwd=tmp_path,
        env=surroundings(home=tmp_path / "home"),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert TRACEBACK not in done.stderr
    places = [done.stdout.find(scene) for scene in SCENES]
    assert -1 not in places, done.stdout
    assert places == sorted(places)
    assert "Green: every balance follows from the ledger" in done.stdout
    # Of a processor: how busy the machine is with other tests is not the demo's doing.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS_MAX
    assert _processes_in(str(tmp_path)) == []
    for log in (tmp_path / "demo").glob("*.log"):
        assert TRACEBACK not in log.read_text()


def _processes_in(text):
    """Process ids whose command line names this directory."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in place.read_bytes():
                found.append(place.parent.name)
    return found
