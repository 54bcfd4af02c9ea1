"""Digest mails to a real SMTP server on loopback: each thing told once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from msgspec import structs

from support.activation import DAY, START, Device
from support.office import Office
from tallystick.activation.core import interventions
from tallystick.activation.core.ports import Changes
from tallystick.activation.outbound import webhooks
from tallystick.activation.outbound.mail import Digest, make_mail, send_mail
from tallystick.activation.settings import MailSettings, SettingsError, WebhookSettings, parse_settings
from tallystick.errors import Error
from tallystick.sentences import FOLDER_VARIABLE, _

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

ROOT = Path(__file__).parents[3]


class Box:
    """Keeps every mail; refuses all while ``is_full``."""

    def __init__(self):
        self.mails = []
        self.is_full = False

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        if self.is_full:
            return "452 no room"
        self.mails.append((envelope, session.auth_data if session.authenticated else None))
        return "250 taken"


@pytest.fixture
def box():
    return Box()


@pytest.fixture
def smtp(box):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=port,
        authenticator=lambda _server, _session, _envelope, _mechanism, data: AuthResult(
            success=data.password == b"secret",
            handled=False,  # aiosmtpd tells the client what came of it
            auth_data=data.login.decode(),
        ),
        auth_require_tls=False,
    )
    controller.start()
    yield port
    controller.stop()


@pytest.fixture
def office(tmp_path):
    found = Office.at(f"sqlite:///{tmp_path / 'tally.sqlite'}")
    yield found
    found.store.close()


def settings_for(port, **changes):
    settings = MailSettings(
        host="127.0.0.1", port=port, security="none", sender="tally@maker.example", recipients=("ops@maker.example",)
    )
    return replace(settings, **changes)


def digest_of(office, settings):
    placed = webhooks.Dispatcher(
        store=office.store,
        settings=WebhookSettings(),
        kept_days=90,
        clock=lambda: office.now,
        random_bytes=os.urandom,
    )
    placed.place_all()
    return Digest(store=office.store, settings=settings, issuer="Maker", clock=lambda: office.now, send=send_mail)


def trouble(office):
    """An open return, a rollback, a line that expires."""
    line, device = office.buy(5), Device("plant-room")
    device.take(office.post(device.activate((line, 3)))[0].reply[0])
    office.post(device.give_back((line, 1)))
    copy = device.copy()
    copy.sequence = 1
    office.post(copy.say("refresh"))
    expiring = office.buy(2, name="other")
    office.store.transact(
        lambda tx: tx.save(Changes(lines={expiring.line_id: structs.replace(expiring, expires_at=START + 20 * DAY)}))
    )


def test_returns_incidents_and_expiries_are_told_each_once(office, smtp, box):
    settings = settings_for(smtp)
    trouble(office)
    assert digest_of(office, settings).run_once() == 2  # the return is not old enough yet
    office.now += 8 * DAY
    assert digest_of(office, settings).run_once() == 1
    office.now += 8 * DAY
    assert digest_of(office, settings).run_once() == 0
    assert len(box.mails) == 2
    first, second = (envelope.content.decode() for envelope, _ in box.mails)
    assert "Incidents" in first
    assert "fork" in first
    assert "Lines that expire" in first
    assert "Open returns" in second
    assert "plant-room" in second
    assert box.mails[0][0].rcpt_tos == ["ops@maker.example"]


def test_digests_are_apart_and_of_two_processes_one_sends(office, smtp, box):
    settings = settings_for(smtp)
    trouble(office)
    assert [digest_of(office, settings).run_once() for _ in range(3)] == [2, 0, 0]
    line, device = office.buy(1, name="third"), Device("roof")
    office.post(device.activate((line, 1)))
    office.post(device.copy().say("refresh", sequence=1))
    office.now += 3600
    assert digest_of(office, settings).run_once() == 0
    office.now += 24 * 3600
    assert digest_of(office, settings).run_once() == 1


def test_what_the_mail_server_did_not_take_is_told_again(office, smtp, box):
    settings = settings_for(smtp)
    trouble(office)
    box.is_full = True
    with pytest.raises(Error) as failed:
        digest_of(office, settings).run_once()
    assert failed.value.code == "mail-failed"
    box.is_full = False
    assert digest_of(office, settings).run_once() == 0  # a pause first
    office.now += 301
    assert digest_of(office, settings).run_once() == 2


def test_a_user_signs_in_and_a_wrong_password_is_told(office, smtp, box):
    trouble(office)
    with pytest.raises(Error, match="535"):
        digest_of(office, settings_for(smtp, user="tally", password="wrong")).run_once()
    office.now += 301
    assert digest_of(office, settings_for(smtp, user="tally", password="secret")).run_once() == 2
    assert box.mails[0][1] == "tally"


def test_nobody_there_and_nothing_set_are_no_fault(office, smtp):
    assert digest_of(office, MailSettings()).run_once() == 0
    trouble(office)
    with pytest.raises(Error) as failed:
        digest_of(office, settings_for(1)).run_once()
    assert failed.value.code == "mail-failed"


def test_names_from_the_field_cannot_forge_lines_or_headers():
    from tallystick.activation.outbound.mail import Matter

    matter = Matter(subject="s", section=_("Incidents"), text=_("{name}", name="a\r\nBcc: all@example\u202e"))
    mail = make_mail(settings_for(1), "Maker\r\nBcc: x@y", [matter], now=START)
    assert "Bcc" not in mail
    assert "\n" not in mail["Subject"]
    assert "a  Bcc: all@example " in mail.get_content()


def test_a_mail_is_in_the_language_of_the_settings(office, smtp, box, tmp_path, monkeypatch):
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "sentences.py", "--pseudo", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    document = {"issuer": "Maker", "mail": {"language": "en_XA"}}
    assert parse_settings(document).mail.language == "en_XA"
    trouble(office)
    office.now += 8 * DAY
    assert digest_of(office, replace(settings_for(smtp), language="en_XA")).run_once() == 3
    text = message_from_bytes(box.mails[0][0].content, policy=policy.default).get_content()
    for english in ("Incidents", "Open returns", "Lines that expire", "activation server", "open since", "Next:"):
        assert english not in text
    assert "plant-room" in text
    assert "fork" in text


def test_a_language_that_there_is_no_catalog_of_is_refused():
    with pytest.raises(SettingsError) as refused:
        parse_settings({"issuer": "Maker", "mail": {"language": "tlh"}})
    assert refused.value.code == "settings-wrong"
    assert "one of en" in str(refused.value)


def test_a_return_started_by_a_person_is_told_too(office, smtp, box):
    line, device = office.buy(5), Device("plant-room")
    device.take(office.post(device.activate((line, 3)))[0].reply[0])
    office.store.transact(
        lambda tx: interventions.start_return(tx, office.signer, device.id, by="ann", now=office.now, takes_back=True)
    )
    office.now += 8 * DAY
    assert digest_of(office, settings_for(smtp)).run_once() == 1
