"""A database of the first version is taken along; sticks are what is mounted and removable."""

import sqlite3

from tallystick.administrator.core import usb_sticks
from tallystick.administrator.memory import database
from tallystick.administrator.memory.inventory import Inventory


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
    monkeypatch.setenv(usb_sticks.STICKS_VARIABLE, f"{tmp_path}:/nowhere/at/all")
    assert [stick.path for stick in usb_sticks.find_sticks() if stick.path == tmp_path] == [tmp_path]


def test_of_the_mounts_of_linux_only_removable_media_count():
    text = (
        "/dev/sda1 / ext4 rw 0 0\n"
        "/dev/sdb1 /media/ann/MY\\040STICK vfat rw 0 0\n"
        "tmpfs /media/x tmpfs rw 0 0\n"
        "/dev/sdc1 /run/media/ann/B exfat rw 0 0\n"
        "broken\n"
    )
    assert [str(path) for path in usb_sticks.parse_linux_mounts(text)] == ["/media/ann/MY STICK", "/run/media/ann/B"]


def test_of_the_volumes_of_macos_only_local_ones_that_can_be_written_count():
    text = (
        "/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)\n"
        "devfs on /dev (devfs, local, nobrowse)\n"
        "/dev/disk4s1 on /Volumes/MY STICK (msdos, local, nodev, nosuid, noowners, noatime)\n"
        "/dev/disk5s2 on /Volumes/B (blue) (exfat, local, nodev, nosuid)\n"
        "/dev/disk6s1 on /Volumes/Installer (hfs, local, nodev, read-only, noowners)\n"
        "//ann@nas/site on /Volumes/site (smbfs, nodev, nosuid, mounted by ann)\n"
        "/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)\n"
        "broken\n"
    )
    assert [str(path) for path in usb_sticks.parse_macos_mounts(text)] == ["/Volumes/MY STICK", "/Volumes/B (blue)"]


def test_of_the_drives_of_windows_only_removable_ones_count():
    fixed, removable, network, none = 3, 2, 4, 1
    found = list(
        usb_sticks.choose_windows_drives({"D": fixed, "F": removable, "E": removable, "N": network, "Z": none})
    )
    assert [str(path)[0] for path in found] == ["E", "F"]
