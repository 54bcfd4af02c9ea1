"""Everything that goes wrong on site, on the pages and in the command line: its sentence, its next step, nothing lost.

docs/walkthroughs/when-something-fails.md has a row for each of these tests, and names it.
"""

import os
import shutil
import subprocess

import pytest

from support.adminpages import pages_of
from support.between import Between
from support.parties import Disk
from tallystick.administrator.core.usb_sticks import STICKS_VARIABLE
from tallystick.administrator.network import clients
from tallystick.administrator.web.carry import FILE_NAME

pytestmark = pytest.mark.slow


@pytest.fixture
def site(world):
    """One field server, an activation server that answers, and three licenses."""
    bought = world.activation.buy("smartdriver=3", "external-log-storage=1")
    world.activation.start()
    world.admin("entitlement", "add", bought["entitlement_id"], "--activation", world.activation.url)
    world.line = bought["lines"][0]["line"]
    world.roof = world.field_server("roof", add=False)
    return world


@pytest.fixture
def between(site, monkeypatch):
    """Somebody in between whose answers are bad; and less patience than in life."""
    monkeypatch.setattr(clients, "PROBE_SECONDS", 2.0)
    monkeypatch.setattr(clients, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(clients, "PROBE_WHOLE_SECONDS", 3.0)
    monkeypatch.setattr(clients, "ANSWER_WHOLE_SECONDS", 4.0)
    with Between(site.roof) as between:
        site.admin("add", between.url, "--password-file", site.roof.password_file)
        yield between


def on_the_command_line(site, *says, words=("refresh", "roof"), expect=(1, 3, 4)):
    site.admin(*words, expect=expect)
    for text in says:
        assert text in site.admin.stderr, (text, site.admin.stderr)


def on_the_pages(site, *says, do="refresh"):
    """The same operation by clicks; and the list shows what to do."""
    with pages_of(site.admin.home) as page:
        page.send("/drafts", data={"do": do, "everyone": "yes"})
        page.send(f"{page.at}/begin")
        page.wait()
        for text in says:
            assert text in page.text, (text, page.text)


def both(site, code, seen, next_step):
    on_the_command_line(site, f"({code})", seen, f"Next: {next_step}")
    on_the_pages(site, f"<code>{code}</code>", seen, next_step)


def is_well_again(site, between):
    """What was asked for before, by whoever saw no answer, is neither lost nor done twice."""
    between.faults.clear()
    site.admin("sync")
    site.admin("activate", "roof", "--line", f"{site.line}=2")
    assert site.roof.held() == {site.line: 2}
    row = site.activation.lines()[site.line]
    assert (row["held"], row["returning"], row["available"]) == (2, 0, 1)
    site.activation.verify()


# Field servers


def test_unreachable(site, between):
    between.server.stop()
    between.faults["*"] = "silent"
    both(site, "unreachable", "an answer from", "Check the address, the cable and the route")
    between.server.start()
    is_well_again(site, between)


@pytest.mark.parametrize("fault", ["slow", "slow head", "silent"])
@pytest.mark.parametrize("path", ["/v1/identity", "/v1/licenses"])
def test_slow(site, between, path, fault):
    between.faults[path] = fault
    both(site, "unreachable", "no whole answer in time", "Check the address, the cable and the route")
    is_well_again(site, between)


def test_wrong_password(site, between):
    site.roof.stop()
    hashed = site.roof.directory / "password.scrypt"
    before, other = hashed.read_bytes(), site.field_server("cellar", add=False)
    shutil.copy(other.directory / "password.scrypt", hashed)
    site.roof.start()
    on_the_command_line(site, "(password-wrong)", "Next: Take it from the password file")
    for _ in range(20):  # each wrong one makes the pause longer; on a slow machine the first ones are over at once
        site.admin("refresh", "roof", expect=1)
        if "(too-many-tries)" in site.admin.stderr:
            break
    assert "seconds, then try again with the right password" in site.admin.stderr
    with pages_of(site.admin.home) as page:
        page.send("/drafts", data={"do": "refresh", "everyone": "yes"})
        page.send(f"{page.at}/begin")
        page.wait()
        told = ("<code>too-many-tries</code>", "try again with the right password")
        if told[0] not in page.text:
            told = ("<code>password-wrong</code>", "Take it from the password file")
        assert all(text in page.text for text in told), page.text
    site.roof.stop()
    hashed.write_bytes(before)
    site.roof.start()
    is_well_again(site, between)


def test_changed_certificate(site, between):
    between.show_certificate_of(site.field_server("cellar", add=False))
    between.asked.clear()
    both(site, "certificate-changed", "nothing was sent to it", "If the field server was set up anew")
    assert between.asked == [], "not a byte"
    between.show_certificate_of(site.roof)
    is_well_again(site, between)


def test_wrong_kind(site, between):
    cellar = site.field_server("cellar")
    site.admin("assign", "external-log-storage=1", "cellar", expect=1)
    assert "kind-mismatch" in site.admin.stderr
    assert "Next: Assign it to a field server of one of those kinds" in site.admin.stderr
    with pages_of(site.admin.home) as page:
        line = next(
            line["line"]
            for one in site.admin("entitlement", "list", "--json")
            for line in one["lines"]
            if line["product"] == "external-log-storage"
        )
        page.see(f"/plan?line={line}")
        assert "does not apply" in page.text
        assert "not for AS-B" in page.text
        page.send("/plan/assign", data={"device": cellar.id, "line": line, "quantity": "1", "do": "assign"})
        assert "kind-mismatch" in page.text
        assert "Assign it to a field server of one of those kinds" in page.text
    is_well_again(site, between)


@pytest.mark.parametrize(
    ("path", "fault", "seen"),
    [
        ("/v1/identity", "unknown", "does not know GET /v1/identity"),
        ("/v1/licenses", "unknown", "does not know GET /v1/licenses"),
        ("/v1/identity", "newer", "version 2, of its software 9.0"),
        ("/v1/licenses", "other form", "an answer with another form"),
    ],
)
def test_old_version(site, between, path, fault, seen):
    between.faults[path] = fault
    both(site, "version-wrong", seen, "Update the older of the two")
    site.admin("servers")
    assert "yes" in site.admin.stdout, "it answers"
    assert "version-wrong: Update the older" in site.admin.stdout
    is_well_again(site, between)


def test_something_else_answers(site, between):
    between.faults["/v1/identity"] = "not json"
    both(site, "unreachable", "an answer that is not Tallystick", "Check the address")
    is_well_again(site, between)


@pytest.mark.parametrize("path", ["/v1/identity", "/v1/licenses", "/v1/requests", "/v1/inbox", "/v1/outbox"])
def test_half_answered(site, between, path):
    """The connection is cut in the middle of the answer: the field server did what it was asked, and nobody was told."""
    between.faults[path] = "half"
    site.admin("activate", "roof", "--line", f"{site.line}=2", expect=(0, 3, 4))
    if path != "/v1/outbox":  # which is only asked where more waits than what was just written
        assert "unreachable" in site.admin.stderr
        assert "Next: Check the address, the cable and the route" in site.admin.stderr
        says = ("<code>unreachable</code>", "Check the address, the cable and the route")
        if path == "/v1/requests":
            says = ("1 of 1 done",)  # what it wrote waits there, and is what is asked for
        on_the_pages(site, *says, do="activate")
    is_well_again(site, between)


def test_answering_for_another_field_server(site, between):
    """Same certificate, same address, and behind it another one: a cloned image, or two that were swapped."""
    between.server = site.field_server("cellar", add=False)
    both(site, "device-wrong", "cellar, ", "Remove it and add it again")
    assert between.asked[-1] == "/v1/identity", "nothing else was asked of it"
    between.server = site.roof
    is_well_again(site, between)


# Files


def test_a_file_from_another_site_and_the_same_file_twice(site):
    """Two sites of one activation server; the reply of one comes to the other."""
    site.admin("add", site.roof.url, "--password-file", site.roof.password_file)
    site.admin("activate", "roof", "--line", f"{site.line}=1", "--route", "offline", expect=4)
    site.admin("export", site.path("up.tally"))
    site.activation.upload(site.path("up.tally"), site.path("down.tally"))
    other = site.admin.__class__(site.path("other-home"))
    cellar = site.field_server("cellar", add=False)
    other("add", cellar.url, "--password-file", cellar.password_file)
    other("route")
    other("import", site.path("down.tally"), expect=(1, 4))
    assert "device-wrong" in other.stderr
    assert "Next: If that field server is one of yours, add it (tallystick admin add URL)" in other.stderr
    with pages_of(other.home) as page:
        page.send("/carry/take", files={"files": ("down.tally", site.path("down.tally").read_bytes())})
        assert "<code>device-wrong</code>" in page.text
        assert "If that field server is one of yours, add it (the page Add)" in page.text
    # and where it belongs, any number of times
    for _ in range(2):
        site.admin("import", site.path("down.tally"))
    assert "0 of them new" in site.admin.stdout
    with pages_of(site.admin.home) as page:
        page.send("/carry/take", files={"files": ("down.tally", site.path("down.tally").read_bytes())})
        assert "It was taken in before; nothing changed." in page.text
    assert site.roof.held() == {site.line: 1}


# Sticks and disks


@pytest.fixture
def waiting(site, monkeypatch):
    """A message waits to be carried, and a stick is plugged in: a disk of its own, seen at two places."""
    site.admin("add", site.roof.url, "--password-file", site.roof.password_file)
    site.admin("activate", "roof", "--line", f"{site.line}=1", "--route", "offline", expect=4)
    site.stick = site.path("STICK")
    monkeypatch.setenv(STICKS_VARIABLE, str(site.stick))
    return site


def everything_still_waits(site):
    assert site.admin("status", "--json")["outbound"] == 1
    site.admin("export", site.path("again.tally"))
    site.activation.upload(site.path("again.tally"), site.path("down.tally"))
    site.admin("import", site.path("down.tally"))
    assert site.roof.held() == {site.line: 1}


def pulled_out_at(monkeypatch, name, pull, *, first=None):
    """Just before the system is asked for ``name`` for the first time (and of ``first``)."""
    asked, done = getattr(os, name), []

    def ask(*words, **more):
        if not done and first in {None, words[0]}:
            done.append(pull())
        return asked(*words, **more)

    monkeypatch.setattr(os, name, ask)


@pytest.mark.parametrize(
    ("where", "moment"),
    [
        ("command line", "fsync"),
        ("command line", "replace"),
        ("pages", "open"),
        ("pages", "fsync"),
        ("pages", "replace"),
    ],
)
def test_the_stick_pulled_out_while_writing(waiting, monkeypatch, moment, where):
    """Unmounted in the middle, with the kernel's own means; what was on it is seen at its other place."""
    disk, other = Disk(waiting.path("disk"), "1m"), waiting.path("disk")
    assert disk.mount(), "a disk of its own needs root and mount, as CI has them"
    waiting.stick.mkdir()
    try:
        subprocess.run(["mount", "--bind", other, waiting.stick], check=True)
        with monkeypatch.context() as patch:
            pulled_out_at(
                patch,
                moment,
                lambda: subprocess.run(["umount", "-l", waiting.stick], check=True),
                first=waiting.stick if moment == "open" else None,  # before its directory is opened
            )
            if where == "command line":
                waiting.admin("export", waiting.stick / FILE_NAME, expect=1)
                text = waiting.admin.stderr
            else:
                with pages_of(waiting.admin.home) as page:
                    text = page.send("/carry/stick", stick=str(waiting.stick)).text
        assert "disk-failed" in text
        assert "Check that the disk is mounted writable and healthy, then try again" in text
        assert not (waiting.stick / FILE_NAME).exists(), "nothing landed where the stick was"
        on_it = other / FILE_NAME
        assert not on_it.exists() or on_it.read_bytes().endswith(b"\n"), "whole or not at all"
    finally:
        subprocess.run(["umount", "-l", waiting.stick], check=False, capture_output=True)  # where it was not reached
        disk.unmount()
    everything_still_waits(waiting)


@pytest.mark.parametrize("where", ["command line", "pages"])
def test_the_stick_gone_without_a_trace(waiting, monkeypatch, where):
    """Its directory went away in the middle: what automatic mounters do."""
    waiting.stick.mkdir()
    with monkeypatch.context() as patch:
        pulled_out_at(patch, "fsync", lambda: waiting.stick.rename(waiting.path("pocket")))
        if where == "command line":
            waiting.admin("export", waiting.stick / FILE_NAME, expect=1)
            text = waiting.admin.stderr
        else:
            with pages_of(waiting.admin.home) as page:
                text = page.send("/carry/stick", stick=str(waiting.stick)).text
    assert "disk-failed" in text
    everything_still_waits(waiting)


def test_a_stick_that_keeps_something_else_than_what_was_written(waiting, monkeypatch):
    """Worn-out memory: it takes every byte, and gives others back."""
    waiting.stick.mkdir()
    asked = os.replace

    def replace(source, target, **more):
        asked(source, target, **more)
        with (waiting.stick / FILE_NAME).open("r+b") as file:
            file.seek(100)
            file.write(b"\0")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        waiting.admin("export", waiting.stick / FILE_NAME, expect=1)
    assert "disk-failed" in waiting.admin.stderr
    assert "what is on it now is not what was written" in waiting.admin.stderr
    assert not (waiting.stick / FILE_NAME).exists()
    everything_still_waits(waiting)


@pytest.mark.parametrize("where", ["command line", "pages"])
def test_a_full_stick(waiting, where):
    disk = Disk(waiting.stick, "64k")
    assert disk.mount(), "a disk of its own needs root and mount, as CI has them"
    try:
        disk.fill()
        if where == "command line":
            waiting.admin("export", waiting.stick / FILE_NAME, expect=1)
            text = waiting.admin.stderr
        else:
            with pages_of(waiting.admin.home) as page:
                text = page.send("/carry/stick", stick=str(waiting.stick)).text
        assert "disk-full" in text
        assert "Make room on the disk, then try again; nothing was changed" in text
        assert [path.name for path in waiting.stick.iterdir()] == ["ballast"], "no half file stays"
        disk.empty()
        waiting.admin("export", waiting.stick / FILE_NAME)
    finally:
        disk.unmount()
    everything_still_waits(waiting)


@pytest.mark.parametrize("where", ["command line", "pages"])
def test_a_full_disk_of_the_laptop(site, where):
    disk = Disk(site.path("small"), "1m")
    assert disk.mount(), "a disk of its own needs root and mount, as CI has them"
    bought = site.admin("entitlement", "list", "--json")[0]["entitlement_id"]
    site.admin.home = disk.path
    try:
        site.admin("entitlement", "add", bought, "--activation", site.activation.url)
        site.admin("add", site.roof.url, "--password-file", site.roof.password_file)
        if where == "command line":
            disk.fill()
            site.admin("activate", "roof", "--line", f"{site.line}=2", expect=(1, 4))
            text = site.admin.stderr
            disk.empty()
        else:
            site.admin("assign", f"{site.line}=2", "roof")
            with pages_of(site.admin.home) as page:
                page.send("/drafts", data={"do": "activate", "everyone": "yes"})
                disk.fill()
                text = page.send(f"{page.at}/begin").text
                disk.empty()
        assert "disk-full" in text or "disk-failed" in text
        assert "then try again; nothing was changed" in text
        site.admin("activate", "roof", "--line", f"{site.line}=2")
        assert site.roof.held() == {site.line: 2}
    finally:
        disk.unmount()


# Two at the same time


def test_two_laptops_on_the_same_site_at_the_same_time(site):
    """Each with its own data, both offline, both return the same field server; files cross; nothing is lost."""
    ann, ben = site.admin, site.admin.__class__(site.path("ben"))
    cellar = site.field_server("cellar", add=False)
    for laptop in (ann, ben):
        for server in (site.roof, cellar):
            laptop("add", server.url, "--password-file", server.password_file)
    ann("activate", "--all", "--line", f"{site.line}=1")
    ben.route = ann.route = "offline"
    ann("return", "--all", expect=4)
    ben("return", "--all", expect=4)  # it is asked for already: the same messages
    for name, laptop in (("ann", ann), ("ben", ben)):
        laptop("export", site.path(f"{name}-up.tally"))
        site.activation.upload(site.path(f"{name}-up.tally"), site.path(f"{name}-down.tally"))
    ben("import", site.path("ben-down.tally"))
    ann("import", site.path("ann-down.tally"))
    assert site.roof.held() == cellar.held() == {}
    ben("export", site.path("ben-up.tally"))
    site.activation.upload(site.path("ben-up.tally"), site.path("credits.tally"))
    ann("import", site.path("credits.tally"))  # Ann hears of it from Ben's file, and nothing is open there either
    assert ann("status", "--json")["open"] == []
    row = site.activation.lines()[site.line]
    assert (row["available"], row["held"], row["returning"]) == (3, 0, 0)
    ann.route = ben.route = None
    ben("sync")
    assert ben("status", "--json")["open"] == []
    site.activation.verify()


def test_two_who_want_different_things_of_one_field_server(site):
    """Both reach it at the same time; one of them is told what it holds instead, and what to do."""
    ann, ben = site.admin, site.admin.__class__(site.path("ben"))
    for laptop in (ann, ben):
        laptop("add", site.roof.url, "--password-file", site.roof.password_file)
        laptop("entitlement", "list")
    certificate = site.path("certificate.tally")
    site.activation.certify(site.admin("entitlement", "list", "--json")[0]["entitlement_id"], certificate)
    ben("entitlement", "add", certificate, "--activation", site.activation.url)
    for _ in range(2):
        running = [
            ann.start("activate", "roof", "--line", f"{site.line}=1"),
            ben.start("activate", "roof", "--line", f"{site.line}=3"),
        ]
        for process in running:
            _, error = process.communicate(timeout=120)
            assert process.returncode in {0, 1, 4}, error
            assert process.returncode == 0 or "Next: " in error
    ann("activate", "roof", "--line", f"{site.line}=2")
    assert site.roof.held() == {site.line: 2}
    site.activation.verify()


def test_the_pages_and_the_command_line_at_the_same_time(site):
    """On the same data: both return everything, in one moment."""
    site.admin("add", site.roof.url, "--password-file", site.roof.password_file)
    site.admin("activate", "roof", "--line", f"{site.line}=3")
    with pages_of(site.admin.home) as page:
        page.send("/drafts", data={"do": "return", "everyone": "yes"})
        other = site.admin.start("return", "--all", "--json")
        page.send(f"{page.at}/begin")
        page.wait()
        _, error = other.communicate(timeout=120)
        assert other.returncode in {0, 4}, error
        assert "1 of 1 done" in page.text
    assert site.activation.lines()[site.line]["available"] == 3
    assert site.admin("status", "--json")["unfinished"] == []
