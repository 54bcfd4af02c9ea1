"""Webhooks over HTTPS and mail over TLS, against real sockets: a certificate that does not fit is refused, and told."""

import os
import socket
import ssl
import warnings

import pytest

from support.authority import Authority
from support.office import Office
from support.receiver import Receiver
from tallystick.activation.outbound import webhooks
from tallystick.activation.outbound.mail import MailError, Matter, make_mail, send_mail
from tallystick.activation.settings import MailSettings, WebhookSettings
from tallystick.sentences import _

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from aiosmtpd.controller import Controller


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """It is trusted, as an operating system trusts its own."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


def stranger(tmp_path):
    (tmp_path / "stranger").mkdir()
    return Authority(tmp_path / "stranger").context("localhost")


WRONG = {
    "unknown authority": (lambda _, tmp_path: stranger(tmp_path), "certificate"),
    "another name": (lambda authority, _: authority.context("other.example"), "localhost"),
    "ended": (lambda authority, _: authority.context("localhost", days=-2), "expired"),
}


def delivered(tmp_path, context):
    """What came of one delivery to a receiver that serves with ``context``."""
    receiver = Receiver(context)
    office = Office.at(f"sqlite:///{tmp_path / 'tally.sqlite'}")
    settings = WebhookSettings(allow_private=("localhost",))
    office.store.transact(
        lambda tx: webhooks.add(
            tx,
            url=receiver.url.replace("http://127.0.0.1", "https://localhost"),
            account=None,
            kinds=(),
            after=None,
            allowed=settings.allow_private,
            by="ann",
            random_bytes=os.urandom,
            now=office.now,
        )
    )
    line = office.buy(2)
    from support.activation import Device

    office.post(Device("roof").activate((line, 1)))
    webhooks.Dispatcher(
        store=office.store, settings=settings, kept_days=90, clock=lambda: office.now, random_bytes=os.urandom
    ).run_once()
    found = [delivery for delivery, _ in office.store.read(lambda tx: tx.events.deliveries())]
    office.store.close()
    receiver.close()
    return found, receiver.got


def test_a_webhook_goes_to_a_verified_certificate(tmp_path, authority):
    found, got = delivered(tmp_path, authority.context("localhost"))
    assert {(one.state, one.status) for one in found} == {("delivered", 204)}
    assert len(got) == len(found) >= 2


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_a_webhook_does_not_go_to_a_wrong_certificate_and_the_delivery_says_why(tmp_path, authority, wrong):
    make, why = WRONG[wrong]
    found, got = delivered(tmp_path, make(authority, tmp_path))
    assert got == []
    assert {(one.state, one.status) for one in found} == {("waiting", None)}
    assert all(one.detail.startswith("its certificate is refused") and why in one.detail for one in found)


class Box:
    """Keeps every mail, and whether it came over TLS."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        self.mails.append(
            (envelope, session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        )
        return "250 taken"


class Implicit(Controller):
    """Speaks TLS from the first byte; it tries itself once, as a client that verifies nothing."""

    def _trigger_server(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((self.hostname, self.port)) as plain, context.wrap_socket(plain) as client:
            client.recv(100)


def mailed(security, context):
    """Send one mail; returns what the box got."""
    box = Box()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    kind = Implicit if security == "tls" else Controller
    options = {"ssl_context": context} if security == "tls" else {"tls_context": context, "require_starttls": True}
    controller = kind(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    settings = MailSettings(
        host="localhost", port=port, security=security, sender="tally@maker.example", recipients=("ops@maker.example",)
    )
    matters = [Matter(subject="x", section=_("Incidents"), text=_("a fork"))]
    try:
        send_mail(settings, make_mail(settings, "Maker", matters, now=0))
    finally:
        controller.stop()
    return box.mails


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_over_tls_to_a_verified_certificate(authority, security):
    ((mail, is_tls),) = mailed(security, authority.context("localhost"))
    assert is_tls
    assert mail.rcpt_tos == ["ops@maker.example"]


@pytest.mark.parametrize("wrong", sorted(WRONG))
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_does_not_go_to_a_wrong_certificate(tmp_path, authority, security, wrong):
    make, why = WRONG[wrong]
    with pytest.raises(MailError) as caught:
        mailed(security, make(authority, tmp_path))
    assert caught.value.code == "mail-failed"
    assert why in caught.value.seen


def test_mail_does_not_go_in_the_clear_where_starttls_is_wanted(authority):
    box = Box()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)  # offers no STARTTLS
    controller.start()
    settings = MailSettings(
        host="localhost", port=port, security="starttls", sender="t@maker.example", recipients=("o@maker.example",)
    )
    matters = [Matter(subject="x", section=_("Incidents"), text=_("a fork"))]
    with pytest.raises(MailError):
        send_mail(settings, make_mail(settings, "Maker", matters, now=0))
    controller.stop()
    assert box.mails == []
