"""A file is made anew wherever a person or a stick names its place: no link is followed, nothing is written into."""

import ast
import os
import stat
import tempfile
from pathlib import Path

import pytest

import tallystick
from support.parties import small_disk
from support.served import Data
from tallystick.activation.files import save_file, save_named_file
from tallystick.activation.server.backups import _save_stream
from tallystick.administrator.core.file_courier import write_durably
from tallystick.directories import create_file
from tallystick.errors import Error
from tallystick.fieldserver.platform import write_file

ROOT = Path(tallystick.__file__).parent
OURS = {"simulator/crowd.py", "simulator/demo.py"}  # in directories that they made a moment ago


def opens_of(path):
    """Where a file is opened to write without O_EXCL or O_NOFOLLOW, or by a name that follows."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in {"open", "write_text", "write_bytes"}:
            continue
        source = ast.unparse(node)
        if name == "open" and "O_CREAT" in source and "O_EXCL" not in source and "O_NOFOLLOW" not in source:
            yield source
        if name in {"write_text", "write_bytes"}:
            yield source
        if name == "open" and any(
            isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value[:1] in {"w", "a"}
            for part in node.args
        ):
            yield source


# Locks: nothing is written into them.
LOCKS = ("_mark", "run_locks", "self._path, os.O_RDONLY", "O_RDONLY | os.O_CREAT", "os.O_RDWR | os.O_CREAT, 384")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_opened_to_write_through_a_link(path):
    if str(path.relative_to(ROOT)) in OURS:
        return
    found = [source for source in opens_of(path) if not any(lock in source for lock in LOCKS)]
    assert not found


WRITERS = {
    "a stick": (lambda path: write_durably(path, b"new"), ".{name}.{pid}.part"),
    "a field server's file": (lambda path: write_file(path, b"new"), ".{name}.{pid}.new"),
    "a command's file": (lambda path: save_file(path, [b"new"]), None),
}


@pytest.mark.parametrize("writer", sorted(WRITERS))
def test_a_prepared_link_leads_nowhere(tmp_path, writer):
    write, draft = WRITERS[writer]
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"mine")
    stick = tmp_path / "stick"
    stick.mkdir()
    target = stick / "messages.tally"
    target.symlink_to(treasure)
    if draft is not None:
        (stick / draft.format(name=target.name, pid=os.getpid())).symlink_to(treasure)
    write(target)
    assert treasure.read_bytes() == b"mine"
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()


NAMED = {
    "Device Administrator": lambda path: write_durably(path, b"new"),
    "a field server's outbox": lambda path: write_file(path, b"new", is_named=True),
    "the activation server's commands": lambda path: save_named_file(path, [b"new"]),
}


@pytest.fixture
def stick(tmp_path, monkeypatch):
    """A file system of its own, with links to a directory of ours on it, straight and by another link."""
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "messages.tally").write_bytes(b"mine")
    (tmp_path / "by").symlink_to(ours)
    monkeypatch.setenv("HOME", str(tmp_path))
    with small_disk(tmp_path / "stick") as disk:
        (disk.path / "real").mkdir()
        (disk.path / "straight").symlink_to(ours)
        (disk.path / "upwards").symlink_to("../ours")
        (disk.path / "by another").symlink_to(tmp_path / "by")
        (disk.path / "chain").symlink_to("straight")
        (disk.path / "here").symlink_to("real")
        yield disk.path


@pytest.mark.slow  # mounts
@pytest.mark.parametrize("way", ["straight", "upwards", "by another", "chain", "real/../straight", "here/../upwards"])
@pytest.mark.parametrize("writer", sorted(NAMED))
def test_a_linked_directory_on_a_stick_leads_nowhere_either_and_it_is_said_what_to_do(stick, writer, way):
    with pytest.raises(Error) as refused:
        NAMED[writer](stick / way / "messages.tally")
    assert refused.value.code == "link-leads-away"
    assert "is a link to" in refused.value.seen
    assert (stick.parent / "ours" / "messages.tally").read_bytes() == b"mine"
    assert not list((stick.parent / "ours").glob(".*"))


@pytest.mark.slow  # mounts
@pytest.mark.parametrize("writer", sorted(NAMED))
def test_links_within_a_stick_and_links_of_ours_are_followed(stick, writer):
    mine = stick.parent / "my stick"
    mine.symlink_to(stick)
    for place in (stick / "here", mine / "real", stick.parent / "by"):
        NAMED[writer](place / "messages.tally")
        assert (place / "messages.tally").read_bytes() == b"new"


def test_every_command_that_takes_the_name_of_a_file_to_write_looks_for_such_links():
    plain = {"write_file": "is_named", "save_file": None}
    for path in [*ROOT.glob("*/cli.py"), *ROOT.glob("*/commands/*.py"), ROOT / "administrator/web/carry.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in plain:
                assert plain[name] in {word.arg for word in node.keywords}, f"{path}:{node.lineno}"


@pytest.mark.slow  # mounts
def test_a_backup_leaves_no_copy_where_a_link_of_a_stick_leads(stick, tmp_path, monkeypatch):
    data = Data(tmp_path / "data").init()
    made = []
    real = tempfile.TemporaryDirectory
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **named: made.append(named) or real(**named))
    refused = data.run("backup", "-o", str(stick / "straight" / "a.tar.gz"), "--json")
    assert refused.exit_code != 0
    assert refused.json["code"] == "link-leads-away"
    assert not made


def test_what_a_restore_unpacks_follows_no_link(tmp_path):
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"mine")
    place = tmp_path / "backup.sqlite"
    place.symlink_to(treasure)
    import io

    _save_stream(io.BytesIO(b"new"), place)
    assert (treasure.read_bytes(), place.read_bytes()) == (b"mine", b"new")


def test_a_new_file_is_private_whatever_the_umask_is(tmp_path):
    before = os.umask(0)
    try:
        os.close(create_file(tmp_path / "new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_the_database_is_private_in_an_open_directory_and_one_of_yesterday_becomes_so(tmp_path):
    from tallystick.activation.storage import open_store

    before = os.umask(0o022)
    try:
        path = tmp_path / "tallystick.sqlite"
        tmp_path.chmod(0o755)
        open_store(f"sqlite:///{path}", create=True).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        store = open_store(f"sqlite:///{path}")
        store.transact(lambda transaction: transaction.people.save_account("A", now=1))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for beside in ("-wal", "-shm"):
            assert stat.S_IMODE(Path(f"{path}{beside}").stat().st_mode) == 0o600
        store.close()
    finally:
        os.umask(before)
