"""Load, step, save, then speak; and how a data directory comes to be."""

import errno
import json
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from support.fieldserver.helpers import NOW, Desk, Issuer, activate
from support.fieldserver.rig import Rig
from tallystick.errors import Error
from tallystick.fieldserver import commissioning, platform, vault
from tallystick.fieldserver.agent import TIME_SAVED_SECONDS
from tallystick.fieldserver.certificate import fingerprint_of
from tallystick.fieldserver.platform import FileLock, Settings
from tallystick.fieldserver.state import Refresh, Relinquish, Trust
from tallystick.protocol import keys
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.tallyfile import parse_chunks


@pytest.fixture
def rig():
    rig = Rig()
    rig.deliver(rig.desk.issuer.keyset())
    return rig


def test_a_message_is_durable_before_it_is_let_out(rig):
    rig.agent.ask(Refresh())
    assert not rig.disk.cached
    assert rig.other().outbox() == rig.agent.outbox()


def test_a_message_whose_save_failed_is_not_let_out(rig):
    rig.disk.fail_with = errno.ENOSPC
    with pytest.raises(Error) as caught:
        rig.agent.ask(Refresh())
    assert caught.value.code == "disk-full"
    rig.disk.fail_with = None
    assert rig.agent.outbox() == ()


def test_a_refusal_is_raised_with_its_code(rig):
    with pytest.raises(Error) as caught:
        rig.agent.ask(activate(quantity=-1))
    assert caught.value.code == "quantity-wrong"


def test_a_whole_file_is_one_write(rig):
    writes = []
    save, rig.disk.write = rig.disk.write, lambda name, data: (writes.append(name), save(name, data))[1]
    grants = [rig.desk.issuer.grant(rig.desk.id, number, confirm=True) for number in (1, 2, 3)]
    delivery = rig.deliver(*grants)
    assert len(writes) == 1
    assert [line.received.effect for line in delivery.lines] == ["applied"] * 3
    assert delivery.waiting == 3


def test_good_lines_go_through_beside_bad_ones(rig):
    grant = rig.desk.issuer.grant(rig.desk.id, 1)
    other = Desk(seed=b"e" * 32)
    delivery = rig.deliver("# comment", "junk", rig.desk.issuer.grant(other.id, 1), grant, grant[:-5], grant)
    assert [(line.line_number, str(line.received.effect), line.received.code) for line in delivery.lines] == [
        (2, "error", "envelope-malformed"),
        (3, "error", "device-wrong"),
        (4, "applied", None),
        (5, "error", "envelope-malformed"),
        (6, "already", None),
    ]
    assert delivery.has_errors


def test_a_step_takes_one_sync(rig):
    before = rig.disk.syncs
    rig.agent.ask(Refresh())
    rig.agent.ask(Relinquish())
    assert rig.disk.syncs == before + 2


def test_what_changes_nothing_writes_nothing(rig):
    grant = rig.desk.issuer.grant(rig.desk.id, 1)
    rig.deliver(grant)
    rig.disk.write = None
    assert rig.deliver(grant, "junk").waiting == 0


def test_two_processes_on_one_directory_never_use_a_sequence_twice(rig):
    other = rig.other()
    messages = [agent.ask(activate(quantity=n)).message for n in range(6) for agent in (rig.agent, other)]
    assert sorted({message.sequence for message in messages}) == list(range(1, 7))
    assert len({message.digest for message in messages}) == 6


def test_the_time_seen_is_saved_hourly_and_not_more_often(rig):
    rig.clock.value += TIME_SAVED_SECONDS - 1
    rig.agent.note_time()
    assert rig.agent.peek().time_seen == NOW
    rig.clock.value += 1
    rig.agent.note_time()
    assert rig.other().peek().time_seen == NOW + TIME_SAVED_SECONDS


# A data directory


def commission(directory, **options):
    settings = Settings(
        kind="AS-P", name=options.pop("name", "plant-room"), host_id="h", trust_first="keys" not in options
    )
    return commissioning.commission(
        directory, settings=settings, clock=platform.SystemClock(), random=platform.SystemRandom(), **options
    )


def test_init_makes_a_field_server(tmp_path):
    made = commission(tmp_path / "new")
    home = platform.load_home(tmp_path / "new")
    assert home.device.facts.kind == "AS-P"
    assert made.home.device.device_id == home.device.device_id
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "new").iterdir()} == {"0o600"}
    assert made.password_file.read_text().strip() not in (tmp_path / "new" / "password.scrypt").read_text()


def test_init_makes_a_certificate_that_never_expires(tmp_path):
    made = commission(tmp_path)
    pem = (tmp_path / "tls.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.not_valid_before_utc.year == 2020
    assert certificate.not_valid_after_utc.year == 9999
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"plant-room", "localhost"} == set(names.get_values_for_type(x509.DNSName))
    assert made.certificate_fingerprint == fingerprint_of(pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "tls.pem", tmp_path / "tls.key")


@pytest.mark.parametrize("name", ["Plant room 1", "Küche", "-x", "a" * 128, "x..y"])
def test_a_name_that_is_no_host_name_makes_a_certificate_too(tmp_path, name):
    commission(tmp_path, name=name)
    assert x509.load_pem_x509_certificate((tmp_path / "tls.pem").read_bytes())


def test_init_pins_the_keys_that_it_is_given(tmp_path):
    made = commission(tmp_path, keys=(Desk().issuer.keyset() + "\n").encode())
    assert made.delivery.lines[0].received.effect == "applied"


def test_init_never_overwrites_a_field_server(tmp_path):
    commission(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Error) as caught:
        commission(tmp_path)
    assert caught.value.code == "already-initialised"
    (tmp_path / platform.SETTINGS_FILE).unlink()
    with pytest.raises(Error) as caught:
        commission(tmp_path)
    assert caught.value.code == "already-initialised"
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: data for name, data in before.items() if name != platform.SETTINGS_FILE} == after


def test_an_init_that_was_interrupted_can_be_repeated(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(vault, "create", fail)
        with pytest.raises(KeyboardInterrupt):
            commission(tmp_path)
    with pytest.raises(Error) as caught:
        platform.load_home(tmp_path)
    assert caught.value.code == "not-initialised"
    commission(tmp_path)
    assert platform.load_home(tmp_path)


@pytest.mark.parametrize(
    ("file", "data", "code"),
    [
        ("fieldserver.json", b"{", "vault-damaged"),
        ("fieldserver.json", b'{"kind":"","name":"x"}', "vault-damaged"),
        ("device.key", b"short", "vault-damaged"),
        ("device.key", None, "not-initialised"),
    ],
)
def test_a_broken_data_directory_is_named(tmp_path, file, data, code):
    commission(tmp_path)
    (tmp_path / file).unlink()
    if data is not None:
        (tmp_path / file).write_bytes(data)
    with pytest.raises(Error) as caught:
        platform.load_home(tmp_path)
    assert caught.value.code == code


def test_a_lock_that_does_not_come_free_is_named(tmp_path):
    lock = tmp_path / "lock"
    with FileLock(lock).hold(), pytest.raises(Error) as caught, FileLock(lock, seconds=0.05).hold():
        pass
    assert caught.value.code == "vault-locked"
    with FileLock(lock).hold():
        pass


def test_threads_take_turns(tmp_path):
    lock, inside, most = FileLock(tmp_path / "lock"), [], []

    def work():
        for _ in range(50):
            with lock.hold():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_a_host_id_does_not_show_the_machine_id():
    host_id = platform.find_host_id()
    assert host_id == platform.find_host_id()
    assert len(host_id) == 32
    machine_id = Path("/etc/machine-id")
    assert not machine_id.exists() or host_id != machine_id.read_text().strip()


def test_settings_are_read_as_they_were_written():
    for settings in (Settings(kind="AS-P", name="Küche"), Settings(kind="A", name="b", host_id="c")):
        assert platform.parse_settings(platform.encode_settings(settings)) == settings
    assert "host_id" not in json.loads(platform.encode_settings(Settings(kind="A", name="b")))


def test_relinquish_then_sync_heals_across_a_restart(rig):
    rig.deliver(rig.desk.issuer.grant(rig.desk.id, 1))
    first = rig.agent.ask(Relinquish()).message
    again = rig.other()
    assert again.ask(Relinquish()).message == first
    assert open_envelope(first.compact.encode()).jwk == rig.desk.device.key.public


# Which root is pinned


def root_of(desk):
    return desk.issuer.root.public.thumbprint


def named(directory, root):
    settings = Settings(kind="AS-P", name="roof", host_id="h", root=root)
    made = commissioning.commission(
        directory, settings=settings, clock=platform.SystemClock(), random=platform.SystemRandom()
    )
    return commissioning.open_agent(made.home, clock=platform.SystemClock(), random=platform.SystemRandom())


def deliver(agent, *lines):
    return [line.received for line in agent.deliver(list(parse_chunks(["\n".join(lines).encode()]))).lines]


def test_a_root_that_is_named_is_the_only_one_that_is_pinned(tmp_path):
    desk, mallory = Desk(), Issuer(seed=9)
    agent = named(tmp_path, root_of(desk))
    (refused,) = deliver(agent, mallory.keyset())
    assert (refused.effect, refused.code) == ("error", "root-differs")
    assert agent.peek().keyset is None
    (taken,) = deliver(agent, desk.issuer.keyset())
    assert taken.effect == "applied"


def test_a_named_root_that_was_handed_over_before_the_first_delivery_is_followed(tmp_path):
    desk, successor = Desk(), Issuer(seed=3)
    handover = keys.make_handover(
        desk.issuer.root, issuer=desk.issuer.name, version=2, issued_at=NOW, successor=successor.root.public
    )
    key = keys.SigningKey(jwk=keys.Jwk(**desk.issuer.key.public.jwk), valid_from=0)
    keyset = keys.make_keyset(
        successor.root, issuer=desk.issuer.name, version=2, issued_at=NOW, keys=(key,), handovers=(handover,)
    )
    (taken,) = deliver(named(tmp_path, root_of(desk)), keyset)
    assert taken.effect == "applied"


def test_trust_at_first_delivery_must_be_asked_for(tmp_path):
    settings = Settings(kind="AS-P", name="roof", host_id="h")
    with pytest.raises(Error) as caught:
        commissioning.commission(
            tmp_path / "new", settings=settings, clock=platform.SystemClock(), random=platform.SystemRandom()
        )
    assert caught.value.code == "usage"
    assert "--trust-first" in caught.value.expected
    assert not (tmp_path / "new").exists()


def test_how_the_root_is_pinned_is_recorded(tmp_path):
    desk = Desk()
    assert named(tmp_path / "named", root_of(desk)).device.trust is Trust.NAMED
    assert commission(tmp_path / "first").home.device.trust is Trust.FIRST
    given = commission(tmp_path / "keys", keys=(desk.issuer.keyset() + "\n").encode())
    assert (given.home.device.trust, given.home.device.root) == (Trust.NAMED, root_of(desk))
    assert platform.load_home(tmp_path / "keys").settings == given.home.settings


def test_a_field_server_of_an_earlier_release_goes_on_and_says_that_nothing_was_recorded(tmp_path):
    commission(tmp_path)
    (tmp_path / platform.SETTINGS_FILE).write_bytes(b'{"kind":"AS-P","name":"plant-room","host_id":"h"}\n')
    home = platform.load_home(tmp_path)
    assert (home.device.trust, home.device.root) == (Trust.UNRECORDED, None)
    agent = commissioning.open_agent(home, clock=platform.SystemClock(), random=platform.SystemRandom())
    (taken,) = deliver(agent, Issuer(seed=9).keyset())
    assert taken.effect == "applied"


@pytest.mark.parametrize(
    ("lines", "code"), [((), "not-found"), (("junk",), "envelope-malformed"), (("entitlement",), "not-found")]
)
def test_a_file_without_keys_pins_nothing_and_makes_nothing(tmp_path, lines, code):
    texts = [Desk().issuer.certificate() if line == "entitlement" else line for line in lines]
    with pytest.raises(Error) as caught:
        commission(tmp_path / "new", keys="\n".join(texts).encode())
    assert caught.value.code == code
    assert not (tmp_path / "new").exists()


def test_keys_of_another_root_than_was_named_make_nothing(tmp_path):
    settings = Settings(kind="AS-P", name="roof", host_id="h", root=root_of(Desk()))
    with pytest.raises(Error) as caught:
        commissioning.commission(
            tmp_path / "new",
            settings=settings,
            clock=platform.SystemClock(),
            random=platform.SystemRandom(),
            keys=Issuer(seed=9).keyset().encode(),
        )
    assert caught.value.code == "root-differs"
    assert not (tmp_path / "new").exists()
