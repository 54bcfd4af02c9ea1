"""What is handed out works where nothing else is: the wheel in a Python of its own, Device Administrator's one file by itself."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = "{}.{}".format(*sys.version_info)  # others are for `make packages`: each is some forty megabytes to fetch
pytestmark = pytest.mark.slow


def command(*words, **options):
    done = subprocess.run(
        [str(word) for word in words], check=False, capture_output=True, text=True, timeout=900, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Another one, of another age, in another place: what a build takes from where it stands would show."""
    place = tmp_path_factory.mktemp("another checkout")
    files = command("git", "-C", ROOT, "ls-files", "-z").split("\0")[:-1]
    for file in files:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / file).is_symlink():
            (place / file).symlink_to((ROOT / file).readlink())
        elif (ROOT / file).exists():
            shutil.copyfile(ROOT / file, place / file)  # with other modes and other times
    wheels = ROOT / "build" / "wheels"  # those of others are fetched once for all checkouts
    wheels.mkdir(parents=True, exist_ok=True)
    (place / "build").mkdir()
    (place / "build" / "wheels").symlink_to(wheels)
    return place


def build(root, *parts):
    at = command("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
    environment = os.environ | {"PYTHONPATH": str(root / "tools"), "SOURCE_DATE_EPOCH": at, "PYZ_PYTHONS": PYTHON}
    command(sys.executable, "-m", "packages", *parts, cwd=root, env=environment)
    return root / "dist"


@pytest.fixture(scope="module")
def dist(checkout):
    return build(checkout, "wheel", "pyz")


def digests(directory):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}


def test_built_again_each_file_has_the_same_bytes(dist, checkout):
    first = digests(dist)
    shutil.rmtree(dist)
    assert digests(build(checkout, "wheel", "pyz")) == first


def test_the_list_beside_the_wheel_installs_what_serves_with_the_example_catalog(dist, tmp_path):
    venv.create(tmp_path / "own", with_pip=True)
    (listed,) = dist.glob("*-activation.txt")
    command(tmp_path / "own/bin/pip", "install", "-q", "--no-compile", "--require-hashes", "-r", listed.name, cwd=dist)
    tallystick, data = tmp_path / "own/bin/tallystick", tmp_path / "data"
    command(tallystick, "activation", "init", "--data", data, "--issuer", "Example Controls")
    (tmp_path / "catalog.yaml").write_text(command(tallystick, "activation", "catalog", "example"), "utf-8")
    command(tallystick, "activation", "catalog", "load", tmp_path / "catalog.yaml", "--data", data)
    assert "smartdriver" in command(tallystick, "activation", "catalog", "show", "--data", data)


def test_a_list_whose_wheel_was_changed_installs_nothing(dist, tmp_path):
    for file in dist.glob("*.txt"):
        shutil.copy(file, tmp_path)
    (wheel,) = dist.glob("*.whl")
    shutil.copy(wheel, tmp_path)
    with zipfile.ZipFile(tmp_path / wheel.name, "a") as changed:
        changed.writestr("tallystick/more.py", "")
    (listed,) = tmp_path.glob("*-fieldserver.txt")
    venv.create(tmp_path / "own", with_pip=True)
    done = subprocess.run(
        [tmp_path / "own/bin/pip", "install", "-q", "--no-deps", "--require-hashes", "-r", listed.name],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode
    assert "DO NOT MATCH" in done.stderr


def test_the_sdist_has_what_its_makefile_asks_for(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    tracked = set(command("git", "-C", ROOT, "ls-files").splitlines())
    missing = {file for file in tracked if file not in names and (ROOT / file).exists()}
    assert not missing


@pytest.fixture
def pyz(dist, tmp_path):
    """The file in a home with blanks and umlauts, where the locale is not UTF-8."""
    home = tmp_path / "Büro Süd"
    home.mkdir()
    file = Path(shutil.copy(dist / "tallystick-admin.pyz", home))
    own = {"HOME": str(home), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    return lambda *words, **more: command(sys.executable, "-I", file, *words, env=own | more, cwd=home), home


def test_device_administrator_starts_from_one_file_and_unpacks_once(pyz):
    start, home = pyz
    assert "name" in start("servers")
    cache = home / ".cache" / "tallystick" / "pyz"
    (unpacked,) = cache.iterdir()
    before = unpacked.stat().st_mtime_ns
    assert "Usage: tallystick admin" in start("--help")
    assert [place.stat().st_mtime_ns for place in cache.iterdir()] == [before]


def test_an_interrupted_unpacking_is_no_installation(pyz):
    start, home = pyz
    half = home / ".cache" / "tallystick" / "pyz" / ".unpacking-half"
    (half / "tallystick").mkdir(parents=True)
    assert "Usage: tallystick admin" in start("--help")


def test_for_another_python_it_says_which_it_wants(dist, tmp_path):
    with zipfile.ZipFile(dist / "tallystick-admin.pyz") as whole, zipfile.ZipFile(tmp_path / "old.pyz", "w") as old:
        old.writestr("__main__.py", whole.read("__main__.py"))
        old.writestr("said.json", whole.read("said.json").replace(f'"{PYTHON}"'.encode(), b'"4.11"'))
    done = subprocess.run([sys.executable, tmp_path / "old.pyz"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "This file is for Python 4.11 on" in done.stderr
    assert "pipx install" in done.stderr


def test_no_package_is_larger_than_promised(dist):
    assert (dist / "tallystick-admin.pyz").stat().st_size < 60_000_000


def test_pipx_installs_device_administrator_with_the_versions_that_were_tried(dist, tmp_path):
    venv.create(tmp_path / "own", with_pip=True)
    command(tmp_path / "own/bin/pip", "install", "-q", "pipx")
    (wheel,), (pins,) = dist.glob("*.whl"), dist.glob("*-constraints.txt")
    homes = {name: str(tmp_path / name.lower()) for name in ("PIPX_HOME", "PIPX_BIN_DIR", "PIPX_MAN_DIR")}
    command(
        *(tmp_path / "own/bin/pipx", "install", "--python", sys.executable),
        *("--pip-args", f"--no-compile --constraint '{pins}'", f"{wheel}[administrator]"),
        env=os.environ | homes,
    )  # fmt: skip
    found = command(tmp_path / "pipx_bin_dir" / "tallystick", "admin", "--help")
    assert "Usage: tallystick admin" in found
