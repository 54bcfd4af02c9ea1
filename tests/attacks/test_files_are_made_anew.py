"""A file is made anew wherever a person or a stick names its place: no link is followed, nothing is written into."""

import ast
import os
import stat
from pathlib import Path

import pytest

import tallystick
from tallystick.activation.files import save_file
from tallystick.activation.server.backups import _save_stream
from tallystick.administrator.core.file_courier import write_durably
from tallystick.directories import create_file
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
