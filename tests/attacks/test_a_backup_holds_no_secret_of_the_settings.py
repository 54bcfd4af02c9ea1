"""Whoever steals a backup does not get the passwords of other machines with it; and a restore can be run again."""

import tarfile
import tomllib

import pytest

from tallystick.activation import settings
from tallystick.activation.core.ports import Policy
from tallystick.activation.files import save_file
from tallystick.activation.server import backups, instance
from tallystick.activation.settings import TABLE

SECRET = "correct-horse:battery/staple"
URL = "postgresql+psycopg://tally:{}@db.example/tallystick?sslmode=require&password={}"


@pytest.fixture
def data(tmp_path):
    instance.initialise(tmp_path / "data", issuer="Maker", policy=Policy(), database=None).close()
    return tmp_path / "data"


def backup(data, output, database=None):
    return backups.make_backup(
        data, output, database=database, passphrase=None, random_bytes=lambda count: b"r" * count, now=1
    )


def content(path):
    with tarfile.open(path) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def test_every_secret_of_the_table_is_left_out_and_named(data, tmp_path):
    secret = [entry for entry in TABLE if entry.is_secret]
    assert {"database", "mail.password", "operations.token"} <= {entry.path for entry in secret}
    text = (data / "settings.toml").read_text()
    for section in ("", *sorted({entry.section for entry in secret if entry.section})):
        text += f"[{section}]\n" if section else ""
        for entry in secret:
            if entry.section == section:
                value = URL.format(SECRET, SECRET) if entry.path == "database" else SECRET
                text += f'{entry.name} = "{value}"\n'
    (data / "settings.toml").write_text(text + '[webhooks]\nallow_private = ["10.0.0.7", "büro"]\n')
    made = backup(data, tmp_path / "a.tar.gz")
    assert set(made.left_out) == {entry.path for entry in secret}
    found = content(tmp_path / "a.tar.gz")
    assert not [name for name, piece in found.items() if SECRET.encode() in piece or b"battery" in piece]
    kept = tomllib.loads(found["settings.toml"].decode())
    assert kept["issuer"] == "Maker"
    assert kept["webhooks"] == {"allow_private": ["10.0.0.7", "büro"]}
    assert kept["database"] == "postgresql+psycopg://tally@db.example/tallystick?sslmode=require"
    settings.parse_settings(kept)


def test_settings_without_secrets_are_kept_as_they_were_written(data, tmp_path):
    (data / "settings.toml").write_text((data / "settings.toml").read_text() + "# a note of mine\n")
    assert backup(data, tmp_path / "a.tar.gz").left_out == ()
    assert content(tmp_path / "a.tar.gz")["settings.toml"] == (data / "settings.toml").read_bytes()


@pytest.mark.parametrize("url", ["postgresql://db/x", "postgresql://tally@db/x", "sqlite:////srv/a@b.sqlite"])
def test_a_url_without_a_password_stays(data, tmp_path, url):
    (data / "settings.toml").write_text((data / "settings.toml").read_text() + f'database = "{url}"\n')
    assert backup(data, tmp_path / "a.tar.gz").left_out == ()


def restore(source, target):
    return backups.restore_backup(
        source, target, database=target / "tallystick.sqlite", passphrase=lambda: "", now=2_000_000_000
    )


def test_a_restore_that_was_interrupted_before_the_settings_can_be_run_again(data, tmp_path, monkeypatch):
    backup(data, tmp_path / "a.tar.gz", database=data / "tallystick.sqlite")
    target = tmp_path / "new"

    def interrupted(path, *words, **more):
        if path.name == "settings.toml":
            raise KeyboardInterrupt
        save_file(path, *words, **more)

    monkeypatch.setattr(backups, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "a.tar.gz", target)
    assert (target / "tallystick.sqlite").exists()
    monkeypatch.undo()
    assert restore(tmp_path / "a.tar.gz", target).backup.has_database
    assert not (target / ".restoring").exists()
    with pytest.raises(backups.BackupError) as again:
        restore(tmp_path / "a.tar.gz", target)
    assert again.value.code == "already-initialised"


def test_a_database_that_no_restore_has_put_there_is_never_written_over(data, tmp_path):
    backup(data, tmp_path / "a.tar.gz", database=data / "tallystick.sqlite")
    target = tmp_path / "new"
    target.mkdir()
    (target / "tallystick.sqlite").write_bytes(b"mine")
    with pytest.raises(backups.BackupError):
        restore(tmp_path / "a.tar.gz", target)
    assert (target / "tallystick.sqlite").read_bytes() == b"mine"
