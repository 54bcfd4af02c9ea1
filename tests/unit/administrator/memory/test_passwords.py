"""A copy of the database alone tells no password."""

import os

import pytest

from tallystick.administrator import app
from tallystick.administrator.memory.database import FILE_NAME, open_database
from tallystick.administrator.memory.inventory import Inventory
from tallystick.administrator.memory.passwords import Sealer, key_from_file, key_from_passphrase
from tallystick.administrator.ports import Contact
from tallystick.errors import Error
from tallystick.protocol.device_api import Identity


@pytest.fixture(autouse=True)
def without_keyring(monkeypatch):
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.delenv("TALLYSTICK_PASSPHRASE", raising=False)
    monkeypatch.delenv("TALLYSTICK_KEY_FILE", raising=False)


def sealer(key=b"k" * 32):
    return Sealer(key=key_from_file(key), random=os.urandom, where="a test")


def kept(directory, used):
    database = open_database(directory)
    inventory = Inventory(database, used)
    identity = Identity(
        device_id="d1", kind="AS-P", host_id="h", name="roof", software="1", certificate_fingerprint="SHA256:x"
    )
    contact = Contact(address="https://roof", certificate="PEM", fingerprint="SHA256:x", password="opensesame")
    inventory.add_field_server(identity, contact, now=1)
    return database


def test_a_password_is_not_in_any_file_of_the_directory(tmp_path):
    kept(tmp_path, sealer()).close()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert any(path.name == FILE_NAME for path in files)
    assert not any(b"opensesame" in path.read_bytes() for path in files)


def test_it_opens_with_its_key_and_for_its_own_field_server_only(tmp_path):
    database = kept(tmp_path, sealer())
    assert Inventory(database, sealer()).field_server("d1").contact.password == "opensesame"
    assert Inventory(database, sealer(b"x" * 32)).field_server("d1").contact.password is None
    stored = sealer().seal("p", "d1")
    assert sealer().open(stored, "d2") is None
    database.close()


def test_what_an_earlier_version_stored_plainly_is_still_read(tmp_path):
    database = kept(tmp_path, None)
    assert Inventory(database, sealer()).field_server("d1").contact.password == "opensesame"
    database.close()


def test_without_a_keyring_the_key_is_a_file_of_the_owner_alone(tmp_path):
    first = app.open_sealer(tmp_path)
    assert (tmp_path / app.KEY_FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert app.open_sealer(tmp_path).key == first.key
    assert first.where.endswith(app.KEY_FILE_NAME)


def test_with_a_keyring_no_file_is_made(tmp_path, monkeypatch):
    import keyring

    secrets = {}
    monkeypatch.setattr(keyring, "get_password", lambda service, name: secrets.get((service, name)))
    monkeypatch.setattr(keyring, "set_password", lambda service, name, value: secrets.update({(service, name): value}))
    first = app.open_sealer(tmp_path)
    assert app.open_sealer(tmp_path).key == first.key
    assert first.where == "the operating system's keyring"
    assert not (tmp_path / app.KEY_FILE_NAME).exists()


def test_a_passphrase_and_a_key_file_come_before_everything(tmp_path, monkeypatch):
    (tmp_path / "short").write_bytes(b"short")
    monkeypatch.setenv("TALLYSTICK_KEY_FILE", str(tmp_path / "short"))
    with pytest.raises(Error, match="at least 32 bytes"):
        app.open_sealer(tmp_path)
    monkeypatch.setenv("TALLYSTICK_PASSPHRASE", "correct horse")
    assert app.open_sealer(tmp_path).key == key_from_passphrase("correct horse")
