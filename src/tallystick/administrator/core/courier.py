"""Finds the route, and carries messages to activation servers where there is one. The only place that knows the mode.

Online, semi-online and offline are the same messages with another courier, so ``Courier.exchange`` either carries, or
raises ``PortError`` (``unreachable``) and says in one sentence why there is no route; the messages then wait for a file.
Every activation server is asked for its keys once per run, before anything is sent to it: that is the probe, it settles
which issuer answers at which address, and it brings new keysets. Replies are verified before they are let in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from tallystick.administrator.core.reach import NOT_REACHED, Reach, report_of
from tallystick.administrator.core.ways import NAME_ACTIVATION
from tallystick.administrator.memory.inventory import FieldServerRecord, Inventory
from tallystick.administrator.memory.messages import KnownReply, Outbound
from tallystick.administrator.ports import (
    FIELD_SERVERS_AT_ONCE_MAX,
    ActivationPort,
    Answered,
    FoundEntitlement,
    Network,
    PortError,
    Probe,
    RouteKind,
    RouteReport,
    next_step_of,
)
from tallystick.domain.ids import Digest, EntitlementId
from tallystick.errors import Error
from tallystick.protocol import messages, tallyfile
from tallystick.protocol.device_api import Identity
from tallystick.protocol.dry_run import Ask, DryRunAnswer
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.messages import KEYS
from tallystick.protocol.tallyfile import GoodLine
from tallystick.sentences import _

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A message that the activation server answered without a signature, or with replies that cannot be believed."""

    digest: Digest
    code: str
    detail: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What came of carrying messages up."""

    replies: tuple[KnownReply, ...]
    unread: tuple[Unread, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReachedActivation:
    """An activation server that answered in this run."""

    url: str
    port: ActivationPort
    issuer: str


class Courier:
    """One run's carrying. Safe for many threads; what it found out about a route holds for the whole run."""

    def __init__(
        self, network: Network, inventory: Inventory, *, forced: RouteKind | None = None, reach: Reach | None = None
    ) -> None:
        """``reach``: is told who answered."""
        self._network = network
        self._inventory = inventory
        self._forced = forced
        self._reach = reach
        self._lock = threading.Lock()
        self._found: dict[str, _ReachedActivation | PortError] = {}

    # Carrying

    def exchange(self, issuer: str, outbound: Sequence[Outbound]) -> Carried:
        """Hand messages for ``issuer`` over and take the replies, verified. Raises ``PortError``: no route, and why."""
        reached = self._reached_of(issuer)
        with self._noted(reached):
            answers = reached.port.exchange([message.compact for message in outbound])
        if self._has_new_keys(answers):
            self._learn(reached.url, reached.port)
        replies: list[KnownReply] = []
        unread: list[Unread] = []
        for message, answer in zip(outbound, answers, strict=False):
            try:
                if answer.digest not in {None, message.digest}:
                    raise PortError(
                        "unreachable", expected=_("answers in the order of the messages"), seen=_("another order")
                    )
                replies += [self.read_reply(reply) for reply in answer.replies]
            except Error as error:
                unread.append(_unbelieved(message.digest, error))
                continue
            if not answer.replies:
                unread.append(_unread(message.digest, answer))
        return Carried(replies=tuple(replies), unread=tuple(unread))

    def learn_keys(self) -> None:
        """Ask every activation server that is known for its keys. Who has no route is left for another time."""
        for url in self._inventory.activation_urls():
            with suppress(PortError):
                self._reached_at(url)

    def read_reply(self, compact: str) -> KnownReply:
        """A reply whose signature, issuer and time of signing are right. Raises ``WireError``."""
        verified, keyset = self._inventory.verify(open_envelope(compact.encode("utf-8", "replace")))
        claims = messages.parse_reply(verified)
        keyset.check_issued(verified, issuer=claims.iss, issued_at=claims.iat)
        return KnownReply(verified=verified, claims=claims)

    def lookup(self, url: str, entitlement_id: EntitlementId) -> FoundEntitlement:
        """An entitlement, by its id. Raises ``PortError``."""
        reached = self._reached_at(url)
        with self._noted(reached):
            return reached.port.lookup(entitlement_id)

    def foresee(self, issuer: str, asks: Sequence[Ask]) -> DryRunAnswer:
        """What the activation server would decide; nothing happens by that. Raises ``PortError``."""
        reached = self._reached_of(issuer)
        with self._noted(reached):
            answer = reached.port.foresee(asks)
        if len(answer.answers) != len(asks):
            raise PortError("unreachable", expected=_("an answer to each question"), seen=_("fewer"))
        return answer

    @contextmanager
    def _noted(self, reached: _ReachedActivation) -> Iterator[None]:
        """Whoever asks an activation server learns whether it is reached; it is, too, where it refuses."""
        try:
            yield
        except PortError as error:
            self._note(reached.url, reached.issuer, error)
            raise
        self._note(reached.url, reached.issuer)

    def _note(self, url: str, issuer: str = "", error: PortError | None = None) -> None:
        if self._reach is not None:
            why = error.said[1] if error is not None and error.code in NOT_REACHED else None
            self._reach.note_activation(url, issuer=issuer, why=why)

    def lookup_of(self, issuer: str, entitlement_id: EntitlementId) -> FoundEntitlement:
        """The same, wherever the activation server ``issuer`` is reached. Raises ``PortError``."""
        return self._reached_of(issuer).port.lookup(entitlement_id)

    def _reached_of(self, issuer: str) -> _ReachedActivation:
        urls = self._inventory.activation_urls(issuer)
        if not urls:
            raise PortError(
                "unreachable",
                expected=_("the address of the activation server {issuer}", issuer=issuer),
                seen=_("none that is known here"),
                next_step=_("Carry the messages as a file, or name the address: {add}.", add=NAME_ACTIVATION),
            )
        failure: PortError | None = None
        for url in urls:
            try:
                reached = self._reached_at(url)
            except PortError as error:
                failure = failure or error
                continue
            if reached.issuer == issuer:
                return reached
        raise failure or PortError(
            "unreachable",
            expected=_("the activation server {issuer}", issuer=issuer),
            seen=_("another one at {urls}", urls=", ".join(urls)),
        )

    def _reached_at(self, url: str) -> _ReachedActivation:
        """The activation server at an address: asked once per run, and every thread gets what the first one found."""
        with self._lock:
            if url not in self._found:
                self._found[url] = self._knock(url)
            found = self._found[url]
        if isinstance(found, PortError):
            raise found
        return found

    def _knock(self, url: str) -> _ReachedActivation | PortError:
        if self._forced is RouteKind.OFFLINE:
            return PortError(
                "unreachable",
                expected=_("a route to the activation server at {url}", url=url),
                seen=_("that the route was set to offline"),
                next_step=_("Carry the messages as a file."),
            )
        try:
            port = self._network.activation(url)
            reached = _ReachedActivation(url=url, port=port, issuer=self._learn(url, port))
        except PortError as error:
            self._note(url, error=error)
            return error
        except Error as error:
            return PortError(error.code, expected=error.said[0], seen=error.said[1])
        self._note(url, reached.issuer)
        return reached

    def _learn(self, url: str, port: ActivationPort) -> str:
        for line in tallyfile.parse_chunks([port.keys()]):
            if isinstance(line, GoodLine) and line.envelope.typ == KEYS:
                keyset, _other = self._inventory.learn_keyset(line.envelope)
                self._inventory.add_activation(url, keyset.issuer)
                return keyset.issuer
        raise PortError(
            "unreachable", expected=_("an activation server's keys at {url}", url=url), seen=_("an answer without any")
        )

    def _has_new_keys(self, answers: Iterable[Answered]) -> bool:
        """Whether a reply was signed with a key that came after this run began."""
        for answer in answers:
            for reply in answer.replies:
                try:
                    self._inventory.verify(open_envelope(reply.encode("utf-8", "replace")))
                except Error as error:
                    if error.code == "key-unknown":
                        return True
        return False

    # The route

    def find_route(self, field_servers: Sequence[FieldServerRecord]) -> RouteReport:
        """Ask everyone at once, and say which route exists and why. Never raises for what it finds."""
        urls = self._inventory.activation_urls()
        activation = at_once(self._probe_activation, urls)
        asked = at_once(self._probe_field_server, field_servers)
        return report_of(activation, asked, listed=len(field_servers), forced=self._forced)

    def _probe_activation(self, url: str) -> Probe:
        try:
            reached = self._reached_at(url)
        except PortError as error:
            return Probe(name="", address=url, reachable=False, why=error.seen)
        return Probe(name=reached.issuer, address=url, reachable=True)

    def _probe_field_server(self, record: FieldServerRecord) -> tuple[Probe, Identity | None]:
        try:
            with self._network.field_server(record.contact) as port:
                identity = port.identity()
        except PortError as error:
            return Probe(name=record.name, address=record.address, reachable=False, why=error.seen), None
        return Probe(name=record.name, address=record.address, reachable=True), identity


def at_once(work: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
    """The results of ``work`` in the order of ``items``, at most 64 at once."""
    if len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(len(items), FIELD_SERVERS_AT_ONCE_MAX)) as pool:
        return list(pool.map(work, items))


def _unread(digest: Digest, answer: Answered) -> Unread:
    return Unread(digest=digest, code=answer.code or "unreachable", detail=answer.detail, next_step=answer.next_step)


def _unbelieved(digest: Digest, error: Error) -> Unread:
    next_step = error.next_step if isinstance(error, PortError) else next_step_of(error.code)
    return Unread(digest=digest, code=error.code, detail=str(error), next_step=next_step)
