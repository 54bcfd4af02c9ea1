"""Sticks are what is mounted and removable."""

from tallystick.administrator.core import usb_sticks


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
