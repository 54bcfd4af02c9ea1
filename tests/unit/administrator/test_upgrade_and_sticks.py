"""A database of the first version is taken along; sticks are what is mounted and removable."""

import sqlite3

from tallystick.administrator import database, sticks
from tallystick.administrator.inventory import Inventory


def test_a_database_of_version_1_keeps_its_field_servers_and_gets_sites(tmp_path):
    connection = sqlite3.connect(tmp_path / database.FILE_NAME)
    connection.executescript(database._SCHEMA)
    connection.execute(
        "INSERT INTO field_servers (device_id, name, kind, host_id, address, certificate, fingerprint, password, added_at)"
        " VALUES ('d1', 'roof', 'AS-P', 'h', 'https://roof', 'PEM', 'SHA256:x', 'p', 1)"
    )
    connection.execute("PRAGMA user_version=1")
    connection.commit()
    connection.close()
    for _ in range(2):  # the second time there is nothing to do
        opened = database.open_database(tmp_path)
        inventory = Inventory(opened)
        inventory.set_site(["d1"], "North")
        (record,) = inventory.field_servers()
        assert (record.name, record.site, record.contact.password) == ("roof", "North", "p")
        opened.close()


def test_a_named_stick_is_found_while_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv(sticks.STICKS_VARIABLE, f"{tmp_path}:/nowhere/at/all")
    assert [stick.path for stick in sticks.find_sticks() if stick.path == tmp_path] == [tmp_path]


def test_of_the_mounts_of_linux_only_removable_media_count(tmp_path):
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "/dev/sdb1 /media/ann/MY\\040STICK vfat rw 0 0\n"
        "tmpfs /media/x tmpfs rw 0 0\n"
        "/dev/sdc1 /run/media/ann/B exfat rw 0 0\n"
        "broken\n"
    )
    assert [str(path) for path in sticks._linux_mounts(table)] == ["/media/ann/MY STICK", "/run/media/ann/B"]
