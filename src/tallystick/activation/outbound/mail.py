"""Mails to the people who run this activation server: what needs somebody, each thing reported once.

A digest names open returns older than a set age, new incidents, and lines that are about to expire. Digests are at least
some hours apart. What has no room in a mail is counted in it, and comes with the next. What a digest reported is kept after the mail was handed over: a process that dies in between reports twice
rather than never. Mail goes over SMTP from this process; no mail server is asked to relay for anybody else.
"""

from __future__ import annotations

import datetime as dt
import smtplib
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

from tallystick.activation.core.ports import EventKind
from tallystick.activation.settings import MailSettings
from tallystick.activation.storage import PlacedEvent, SqlStore, SqlTransaction
from tallystick.connections.calling import BoundedFile, CutOff, WatchedContext, cut_off
from tallystick.errors import Error
from tallystick.sentences import Reader, Sentence, _, spoken

TIMEOUT_SECONDS: Final = 30.0  # for each read
WHOLE_SECONDS: Final = 120.0
ANSWER_BYTES_MAX: Final = 256 * 1024  # all that an SMTP server says, before and after STARTTLS
RETRY_SECONDS: Final = 300
TOLD_MAX: Final = 500  # in one mail; the rest comes with the next
_PAGE: Final = 1000
_MARK: Final = "mail-digest-at"
_EVENTS_MARK: Final = "mail-event-position"
_DAY_SECONDS: Final = 86_400


class MailError(Error):
    """A mail could not be handed over (``mail-failed``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """One thing to report. ``subject`` names it for ever, so that it is reported once."""

    subject: str
    section: Sentence
    text: Sentence
    position: int | None = None  # of an event: what is behind it was not reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Reports by mail what needs somebody."""

    store: SqlStore
    settings: MailSettings
    issuer: str
    clock: Callable[[], int]
    send: Callable[[MailSettings, EmailMessage], None]

    def run_once(self) -> int:
        """Send a digest if one is due and there is something to report. Returns how many things were reported."""
        if self.settings.host is None:
            return 0
        now = self.clock()
        if not self.store.transact(lambda transaction: self._take_turn(transaction, now)):
            return 0
        fresh, position = self.store.read(lambda transaction: self._gather(transaction, now))
        matters = fresh[:TOLD_MAX]
        left = [matter.position for matter in fresh[TOLD_MAX:] if matter.position is not None]
        position = min([position, *(behind - 1 for behind in left)])
        if matters:
            try:
                self.send(self.settings, make_mail(self.settings, self.issuer, fresh, now=now))
            except Error:
                again = now - self.settings.hours * 3600 + RETRY_SECONDS
                self.store.transact(lambda transaction: transaction.events.set_mark(_MARK, again))
                raise

        def keep(transaction: SqlTransaction) -> None:
            transaction.events.keep_told([matter.subject for matter in matters], at=now)
            transaction.events.set_mark(_EVENTS_MARK, position)

        self.store.transact(keep)
        return len(matters)

    def _take_turn(self, transaction: SqlTransaction, now: int) -> bool:
        """Of several processes, one sends."""
        transaction.events.lock("mail")
        before = transaction.events.mark(_MARK)
        if before is not None and before <= now < before + self.settings.hours * 3600:
            return False
        transaction.events.set_mark(_MARK, now)
        return True

    def _gather(self, transaction: SqlTransaction, now: int) -> tuple[list[Matter], int]:
        incidents, position = self._incidents(transaction)
        candidates = [*self._returns(transaction, now), *incidents, *self._expiries(transaction, now)]
        fresh = set(transaction.events.not_told([matter.subject for matter in candidates]))
        return [matter for matter in candidates if matter.subject in fresh], position

    def _returns(self, transaction: SqlTransaction, now: int) -> list[Matter]:
        limit = now - self.settings.returns_days * _DAY_SECONDS
        found = [holding for holding in transaction.find_open_returns() if holding.since_at <= limit]
        servers = transaction.load_field_servers_for_update({holding.device_id for holding in found})
        return [
            Matter(
                subject=f"return:{holding.device_id}:{holding.line_id}:{holding.since_at}",
                section=_("Open returns"),
                text=_(
                    "{name} ({account}): {count} of line {line}, open since {moment}",
                    name=servers[holding.device_id].name or holding.device_id,
                    account=servers[holding.device_id].account,
                    count=holding.returning,
                    line=holding.line_id,
                    moment=_moment(holding.since_at),
                ),
            )
            for holding in found
            if holding.device_id in servers
        ]

    def _incidents(self, transaction: SqlTransaction) -> tuple[list[Matter], int]:
        position = transaction.events.mark(_EVENTS_MARK) or 0
        last = max(position, transaction.events.last_position())
        found: list[PlacedEvent] = []
        behind = position
        while part := transaction.events.find(after=behind, limit=_PAGE, kinds=(EventKind.INCIDENT.value,)):
            found += part
            behind = part[-1].position
        return [
            Matter(
                subject=f"event:{event.event_id}",
                section=_("Incidents"),
                text=_(
                    "{kind}: {name} ({account}), {moment}: {detail}",
                    kind=event.data.get("incident"),
                    name=event.data.get("name") or event.data.get("device_id"),
                    account=event.account,
                    moment=_moment(event.at),
                    detail=event.data.get("detail"),
                ),
                position=event.position,
            )
            for event in found
        ], last

    def _expiries(self, transaction: SqlTransaction, now: int) -> list[Matter]:
        limit = now + self.settings.expiry_days * _DAY_SECONDS
        return [
            Matter(
                subject=f"expiry:{line.line_id}:{line.expires_at}",
                section=_("Lines that expire"),
                text=_(
                    "{product} of {account}, line {line}: {moment}",
                    product=line.product.name,
                    account=line.account,
                    line=line.line_id,
                    moment=_moment(line.expires_at or 0),
                ),
            )
            for line in transaction.find_expiring_lines(after=now, until=limit)
        ]


def make_mail(settings: MailSettings, issuer: str, matters: Sequence[Matter], *, now: int) -> EmailMessage:
    """The digest as a mail, in the language of the settings. It counts all ``matters``, and has ``TOLD_MAX`` of them."""
    reader = Reader(language=settings.language)
    sections: dict[str, list[str]] = {}
    for matter in matters[:TOLD_MAX]:
        sections.setdefault(spoken(matter.section, reader), []).append(spoken(matter.text, reader))
    every = Counter(spoken(matter.section, reader) for matter in matters)
    counts = ", ".join(f"{section}: {count}" for section, count in every.items())
    mail = EmailMessage()
    mail["Subject"] = _line(f"{issuer}: {counts}")
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.recipients)
    mail["Date"] = format_datetime(dt.datetime.fromtimestamp(now, dt.UTC))
    mail["Auto-Submitted"] = "auto-generated"
    lines = [spoken(_("The activation server {issuer} reports, each once:", issuer=issuer), reader), ""]
    for section, texts in sections.items():
        lines += [section, *(f"  - {_line(text)}" for text in texts), ""]
    for section, count in every.items():
        if count > (shown := len(sections.get(section, ()))):
            cut = _(
                "{section}: {shown} of {count} are in this mail; the rest comes with the next.",
                section=section,
                shown=shown,
                count=count,
            )
            lines += [spoken(cut, reader), ""]
    next_step = _("Next: tallystick activation returns, incidents, lines; or the pages of the activation server.")
    lines.append(spoken(next_step, reader))
    mail.set_content("\n".join(lines) + "\n")
    return mail


class _Bounded(smtplib.SMTP):
    """Reads no more than an SMTP server has to say. ``cut`` ends it in time."""

    def __init__(self, host: str, port: int, *, cut: CutOff, **more: Any) -> None:
        self._cut = cut
        super().__init__(host, port, **more)  # which connects, and has to know the host for TLS

    def getreply(self) -> tuple[int, bytes]:
        """See ``smtplib``."""
        if self.file is None and self.sock is not None:
            if not isinstance(self.sock, ssl.SSLSocket):
                self._cut.watch(self.sock)
            self.file = BoundedFile(self.sock.makefile("rb"), ANSWER_BYTES_MAX)
        return super().getreply()


class _BoundedOverTls(_Bounded, smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""


def send_mail(settings: MailSettings, mail: EmailMessage) -> None:
    """Hand a mail over. Raises ``MailError``."""
    host, port = settings.host or "", settings.port
    with cut_off(WHOLE_SECONDS) as cut:
        context: Any = WatchedContext(ssl.create_default_context(), cut)
        more: dict[str, Any] = {"cut": cut, "timeout": TIMEOUT_SECONDS}
        try:
            is_tls = settings.security == "tls"
            with (
                _BoundedOverTls(host, port, context=context, **more)
                if is_tls
                else _Bounded(host, port, **more) as client
            ):
                if settings.security == "starttls":
                    client.starttls(context=context)
                if settings.user is not None:
                    client.login(settings.user, settings.password or "")
                refused = client.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            seen = _("no whole answer in time") if cut.is_over else str(error)[:200]
            raise MailError(
                "mail-failed", expected=_("{host}:{port} to take a mail", host=host, port=port), seen=seen
            ) from error
    if refused:
        raise MailError("mail-failed", expected=_("every recipient to be taken"), seen=", ".join(sorted(refused))[:200])


def _moment(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _line(text: str) -> str:
    return "".join(symbol if symbol.isprintable() else " " for symbol in text)[:500]
