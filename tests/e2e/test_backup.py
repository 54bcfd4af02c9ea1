"""A backup of a server in service, restored elsewhere: announced, and nothing is used twice."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading

import pytest

from support.processes import make_activation, run, serving

pytestmark = pytest.mark.slow


def members(path):
    with tarfile.open(path) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def rewrite(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_a_backup_while_it_serves_is_consistent_and_a_restore_is_announced(tmp_path):
    data, made, bought = make_activation(tmp_path)
    line = bought["lines"][0]["line"]
    stop = threading.Event()

    def keep_busy():
        quantity = 6
        while not stop.is_set():
            quantity += 1
            run("activation", "line", "change", line, "--quantity", quantity, "--data", data)

    with serving("activation", "serve", "--data", data, "--port", "0"):
        busy = threading.Thread(target=keep_busy)
        busy.start()
        try:
            told = run("activation", "backup", "-o", tmp_path / "a.tar.gz", "--data", data)
        finally:
            stop.set()
            busy.join()
    assert (told["database"], told["keys"]) == (True, False)
    assert (tmp_path / "a.tar.gz").stat().st_mode & 0o777 == 0o600
    found = members(tmp_path / "a.tar.gz")
    assert set(found) == {"manifest.json", "keyset.tally", "settings.toml", "tallystick.sqlite"}
    assert b"PRIVATE KEY" not in b"".join(found.values())

    elsewhere = tmp_path / "elsewhere"
    restored = run("activation", "restore", "--from", tmp_path / "a.tar.gz", "--data", elsewhere)
    assert restored["frozen_lines"] == 1
    assert run("activation", "lines", "--data", elsewhere, expect=1)["code"] == "keys-unusable"
    (elsewhere / "keys").mkdir(mode=0o700)
    shutil.copy(data / "keys" / "signing.pem", elsewhere / "keys" / "signing.pem")
    assert run("activation", "verify", "--data", elsewhere)["green"]
    assert all(row["frozen"] for row in run("activation", "lines", "--data", elsewhere))
    kinds = [event["type"] for event in run("activation", "events", "--data", elsewhere)]
    assert "activation_server.restored" in kinds[-2:]  # with which lines are frozen
    with serving("activation", "serve", "--data", elsewhere, "--port", "0") as (told, _):
        assert told["root_fingerprint"] == made["root_fingerprint"]
    again = run("activation", "restore", "--from", tmp_path / "a.tar.gz", "--data", elsewhere, expect=1)
    assert again["code"] == "already-initialised"


def test_a_backup_with_keys_is_whole_by_itself(tmp_path):
    data, _, _ = make_activation(tmp_path)
    right, wrong, short = (tmp_path / name for name in ("right", "wrong", "short"))
    right.write_text("four quiet words apart\n")
    wrong.write_text("four quiet words together\n")
    short.write_text("short\n")
    words = ("activation", "backup", "-o", tmp_path / "a.tar.gz", "--with-keys", "--data", data)
    assert run(*words, expect=2)["code"] == "usage"
    assert run(*words, "--passphrase-file", short, expect=1)["code"] == "backup-passphrase-wrong"
    assert not (tmp_path / "a.tar.gz").exists()
    assert run(*words, "--passphrase-file", right)["keys"] is True
    found = members(tmp_path / "a.tar.gz")
    assert "keys/signing.pem" not in found
    assert b"PRIVATE KEY" not in b"".join(found.values())
    words = ("activation", "restore", "--from", tmp_path / "a.tar.gz", "--data", tmp_path / "new")
    assert run(*words, "--passphrase-file", wrong, expect=1)["code"] == "backup-passphrase-wrong"
    assert run(*words, expect=2)["code"] == "usage"
    assert list((tmp_path / "new").iterdir()) == []
    run(*words, "--passphrase-file", right)
    assert (tmp_path / "new" / "keys" / "signing.pem").read_bytes() == (data / "keys" / "signing.pem").read_bytes()
    assert run("activation", "verify", "--data", tmp_path / "new")["green"]
    assert not (tmp_path / "new" / "keys" / "root.pem").exists()


@pytest.mark.parametrize(
    "what", ["cut", "no-archive", "altered", "foreign-name", "path", "link", "missing", "manifest"]
)
def test_a_backup_that_is_not_whole_puts_nothing_in_place(tmp_path, what):
    data, _, _ = make_activation(tmp_path)
    path, new = tmp_path / "a.tar.gz", tmp_path / "new"
    run("activation", "backup", "-o", path, "--data", data)
    files = members(path)
    match what:
        case "cut":
            path.write_bytes(path.read_bytes()[:-500])
        case "no-archive":
            path.write_bytes(b"no archive")
        case "altered":
            rewrite(path, files | {"tallystick.sqlite": files["tallystick.sqlite"] + b"x"})
        case "foreign-name":
            rewrite(path, files | {"more.txt": b""})
        case "path":
            rewrite(path, files | {"../outside": b"x"})
        case "link":
            with tarfile.open(path, "w:gz") as archive:
                entry = tarfile.TarInfo("keyset.tally")
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(entry)
        case "missing":
            rewrite(path, {name: content for name, content in files.items() if name != "keyset.tally"})
        case "manifest":
            rewrite(path, files | {"manifest.json": json.dumps({"format": 99}).encode()})
    assert run("activation", "restore", "--from", path, "--data", new, expect=1)["code"] == "backup-wrong"
    assert not (new / "settings.toml").exists()
    assert not (new / "tallystick.sqlite").exists()
    assert not (tmp_path / "outside").exists()


def test_settings_are_checked_and_shown_without_secrets(tmp_path):
    data, _, _ = make_activation(tmp_path)
    env = {
        "TALLYSTICK_MAIL_HOST": "smtp.example.com",
        "TALLYSTICK_MAIL_SENDER": "a@example.com",
        "TALLYSTICK_MAIL_RECIPIENTS": "b@example.com, c@example.com",
        "TALLYSTICK_MAIL_PASSWORD": "hunter2",
        "TALLYSTICK_MAIL_HOTS": "mistyped",
        "TALLYSTICK_DATABASE": f"sqlite:///{data}/tallystick.sqlite",
    }
    mistyped = run("activation", "config", "check", "--data", data, env=env, expect=1)
    assert mistyped["expected"] == "TALLYSTICK_MAIL_HOTS: TALLYSTICK_MAIL_HOST perhaps"
    del env["TALLYSTICK_MAIL_HOTS"]
    assert run("activation", "config", "check", "--data", data, env=env)["good"]
    shown = run("activation", "config", "show", "--data", data, env=env)
    assert "hunter2" not in json.dumps(shown)
    rows = {row["name"]: row for row in shown}
    assert rows["mail.recipients"]["value"] == ["b@example.com", "c@example.com"]
    assert (rows["mail.host"]["source"], rows["mail.port"]["source"]) == ("TALLYSTICK_MAIL_HOST", "default")
    wrong = run("activation", "config", "check", "--data", data, env=env | {"TALLYSTICK_MAIL_PORT": "much"}, expect=1)
    assert (wrong["code"], "mail.port" in wrong["expected"]) == ("settings-wrong", True)
    with (data / "settings.toml").open("a") as file:
        file.write("[mail]\nhosst = 'x'\n")
    assert run("activation", "config", "check", "--data", data, expect=1)["code"] == "settings-wrong"
