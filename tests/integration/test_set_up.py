"""Two makes in one checkout at once: one waits for the other, and what runs from ``.venv`` goes on running."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# A package that builds itself, in place of Tallystick, which asks for others.
BACKEND = """
import base64, hashlib, zipfile
def build_editable(directory, settings=None, metadata=None):
    name = "tally-1.0-py3-none-any.whl"
    files = {"tally.pth": "", "tally-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: tally\\nVersion: 1.0\\n",
             "tally-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
    files["tally-1.0.dist-info/RECORD"] = "".join(f"{name},,\\n" for name in files)
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "requirements").mkdir()
    for name in ("Makefile", "tools/set_up.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("base", "test", "dev", "lowest", "build"):
        (tmp_path / "requirements" / f"{name}.txt").write_text("# nothing\n")
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "tally"\nversion = "1.0"\n'
    )
    return tmp_path


def make(checkout, *words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.Popen(
        ["make", *words],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def test_who_comes_second_waits_and_finds_what_the_first_one_made(checkout):
    both = [make(checkout, f".venv/.{name}") for name in ("base", "test")]
    said = [ended(process) for process in both]
    assert sum(text.count("set-up: .venv with Python") for text in said) == 1
    assert sum(text.count("waiting for it") for text in said) == 1
    assert "No such file" not in "".join(said)


def test_one_that_died_is_not_waited_for(checkout):
    first = make(checkout, ".venv/.base")
    while not (checkout / ".venv" / "bin" / "python").exists():
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(60)
    first.stdout.close()
    ended(make(checkout, ".venv/.base"))


def test_what_is_there_stays_while_more_is_added(checkout):
    ended(make(checkout, ".venv/.base"))
    (package,) = (checkout / ".venv").glob("lib/python3*/site-packages/tally.pth")
    before = package.stat()
    (checkout / "requirements" / "test.txt").write_text("# more\n")
    assert "installing requirements/test.txt" in ended(make(checkout, ".venv/.test"))
    after = package.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert ended(make(checkout, ".venv/.base", ".venv/.test")).count("set-up") == 0
