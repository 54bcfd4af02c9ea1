"""Inventory, mailbag, database and files: pinned once, rising only, idempotent by digest, whole or not at all."""

import os
import sqlite3
import threading

import pytest

from support.activation import ISSUER, TestSigner
from tallystick.administrator.core import file_courier
from tallystick.administrator.core.courier import Courier
from tallystick.administrator.memory.database import FILE_NAME, open_database
from tallystick.administrator.memory.inventory import Inventory
from tallystick.administrator.ports import Contact
from tallystick.errors import Error
from tallystick.protocol import keys
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.problems import WireError


def keyset(signer, version, issuer=ISSUER):
    signing = keys.SigningKey(jwk=keys.Jwk(**signer.key.public.jwk), valid_from=0)
    return open_envelope(
        keys.make_keyset(signer.root, issuer=issuer, version=version, issued_at=1, keys=(signing,)).encode()
    )


# Keys and entitlements


def test_the_first_root_of_an_issuer_is_pinned_and_versions_only_rise(site):
    ours, stranger = TestSigner(), TestSigner("stranger")
    assert site.inventory.learn_keyset(keyset(ours, 2))[1]
    assert site.inventory.learn_keyset(keyset(ours, 1)) == (site.inventory.keyset(ISSUER), False)
    assert site.inventory.keyset(ISSUER).version == 2
    with pytest.raises(WireError) as error:
        site.inventory.learn_keyset(keyset(stranger, 9))
    assert error.value.code == "root-differs"
    assert site.inventory.learn_keyset(keyset(stranger, 1, "Somebody Else"))[1]


def test_a_certificate_needs_a_known_signature(site):
    bought = site.bench.buy(2)
    certificate = open_envelope(site.certificate(bought).encode())
    with pytest.raises(WireError) as error:
        site.inventory.add_entitlement(certificate, now=1)
    assert error.value.code == "key-unknown"
    site.know()
    assert site.inventory.add_entitlement(certificate, now=1)[1]
    assert not site.inventory.add_entitlement(certificate, now=1)[1]


def test_only_a_newer_certificate_replaces_one(site, line):
    old = open_envelope(site.certificate(line).encode())
    site.now += 10
    new = open_envelope(site.certificate(line).encode())
    assert site.inventory.add_entitlement(new, now=1)[1]
    assert not site.inventory.add_entitlement(old, now=1)[1]
    assert site.inventory.entitlements()[0].compact == new.compact


def test_another_certificate_at_a_known_address_is_never_taken(site):
    roof = site.add("roof")
    other = Contact(address=roof.address, certificate="PEM", fingerprint="SHA256:other", password="p")
    with pytest.raises(Error) as error:
        site.inventory.add_field_server(roof.identity(), other, now=1)
    assert error.value.code == "certificate-changed"
    assert site.inventory.field_server(roof.id).contact.fingerprint == roof.fingerprint


def test_adding_again_renews_the_address_and_keeps_what_was_seen(site, line):
    roof = site.add("roof")
    site.activate(roof, (line, 1))
    moved = Contact(address="https://moved", certificate="PEM", fingerprint=roof.fingerprint, password=None)
    assert not site.inventory.add_field_server(roof.identity(), moved, now=1)
    record = site.inventory.field_server(roof.id)
    assert (record.address, record.contact.password, record.held) == ("https://moved", "p", {line.line_id: 1})


def test_no_password_is_shown_by_accident(site):
    roof = site.add("roof")
    assert "password" not in repr(site.inventory.field_server(roof.id))


# Mailbag


def test_an_answer_clears_its_message_and_every_earlier_one(site, line):
    roof = site.add("roof")
    site.cut.add("activation")
    site.activate(roof, (line, 1))
    site.activate(roof, (line, 2))
    first, second = site.mailbag.outbound(roof.id)
    reply = Courier(site, site.inventory).read_reply(site.bench.post(first.compact, second.compact)[1].reply[0])
    names = site.inventory.names()
    assert site.mailbag.keep_replies([reply], now=1, names=names) == 1
    assert site.mailbag.keep_replies([reply], now=1, names=names) == 0
    assert site.mailbag.outbound() == []


def test_a_message_that_was_answered_by_another_hand_is_forgotten(site, line):
    roof = site.add("roof")
    site.cut.add("activation")
    site.activate(roof, (line, 1))
    (message,) = site.mailbag.outbound(roof.id)
    roof.inbox((site.bench.post(message.compact)[0].reply[0] + "\n").encode())
    site.sync(roof)
    assert site.mailbag.outbound() == []


# Files


@pytest.fixture
def reading(site):
    def start():
        return file_courier.Import(
            inventory=site.inventory, mailbag=site.mailbag, courier=Courier(site, site.inventory), now=site.now
        )

    return start


def test_keys_help_the_lines_before_them(site, reading, tmp_path):
    bought = site.bench.buy(2)
    path = tmp_path / "both.tally"
    path.write_text(site.certificate(bought) + "\n" + site.bench.signer.keyset.compact + "\n")
    taken = reading()
    taken.read(path)
    assert (taken.result.keysets, taken.result.entitlements, taken.result.bad) == (1, 1, 0)
    again = reading()
    again.read(path)
    assert (again.result.good, again.result.fresh) == (2, 0)


def test_without_the_keys_the_next_step_says_where_they_are(site, reading, tmp_path):
    path = tmp_path / "certificate.tally"
    path.write_text(site.certificate(site.bench.buy(1)))
    taken = reading()
    taken.read(path)
    assert [(bad.line_number, bad.code, "keys" in bad.next_step) for bad in taken.bad_lines] == [
        (1, "key-unknown", True)
    ]


def test_memory_for_bad_lines_is_bounded(site, reading, tmp_path):
    path = tmp_path / "noise.tally"
    path.write_bytes(b"noise\n" * 5000)
    taken = reading()
    taken.read(path)
    assert (taken.result.bad, len(taken.bad_lines)) == (5000, file_courier.BAD_LINES_KEPT_MAX)


def test_an_export_is_the_same_again_and_never_half(site, line, tmp_path, monkeypatch):
    roof = site.add("roof")
    site.cut.add("activation")
    site.activate(roof, (line, 1))
    path = tmp_path / "out.tally"
    names = site.inventory.names()
    file_courier.write_export(path, site.mailbag.outbound(), names=names)
    first = path.read_bytes()
    assert first.startswith(b"# Tallystick: 1 message(s) of 1 field server(s)")
    file_courier.write_export(path, site.mailbag.outbound(), names=names)
    assert path.read_bytes() == first

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Error) as error:
        file_courier.write_export(path, [], names=names)
    assert error.value.code == "disk-full"
    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.tally"]


@pytest.mark.parametrize(("name", "code"), [("missing", "not-found"), (".", "disk-failed")])
def test_a_file_that_cannot_be_read_has_a_code(reading, tmp_path, name, code):
    taken = reading()
    taken.read(tmp_path / name)
    assert [(bad.line_number, bad.code) for bad in taken.bad_lines] == [(0, code)]


# Database


def test_a_unit_of_work_that_fails_leaves_nothing(tmp_path):
    database = open_database(tmp_path / "home")

    def work():
        with database.write() as sql:
            sql.execute("INSERT INTO activation_servers (url) VALUES ('https://a')")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert Inventory(database).activation_urls() == []
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    open_database(tmp_path).close()
    raw = sqlite3.connect(tmp_path / FILE_NAME)
    raw.execute("PRAGMA user_version=99")
    raw.close()
    with pytest.raises(Error) as error:
        open_database(tmp_path)
    assert error.value.code == "database-newer"


def test_what_is_no_database_has_a_code(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(Error) as error:
        open_database(tmp_path)
    assert error.value.code == "database-unavailable"


def test_a_directory_that_cannot_be_made_has_a_code(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Error) as error:
        open_database(tmp_path / "file" / "home")
    assert error.value.code == "disk-failed"


def test_many_threads_and_connections_write_at_once(tmp_path):
    databases = [open_database(tmp_path) for _ in range(3)]

    def work(database, start):
        for number in range(20):
            Inventory(database).add_activation(f"https://{start}-{number}")

    threads = [threading.Thread(target=work, args=(databases[at % 3], at)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Inventory(databases[0]).activation_urls()) == 120
    for database in databases:
        database.close()
