"""The real network: HTTPS to field servers by their pinned certificate, HTTP(S) to activation servers.

Guarantees towards a field server: the pinned certificate is the only trust anchor, and the handshake is over before the
password, or anything else, is sent; when it fails, the certificate that the address shows now is looked at, and
``certificate-changed`` names both fingerprints. The pin decides, not the name in the certificate and not its dates: a
technician's clock may be wrong. No proxy stands between this computer and a field server, unless one was set for that.

Towards an activation server: the operating system's trust, and the proxy that was set, else those of the environment.
Every exchange has a limit in bytes and a deadline for the whole of it, also where the other side says one byte a second.
Whatever goes wrong leaves as a ``PortError``; a proxy that refuses is told apart from whoever is behind it.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Never, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from tallystick.administrator.network.proxy import Proxy
from tallystick.administrator.network.transport import open_tunnel
from tallystick.administrator.ports import (
    FIELD_SERVERS_AT_ONCE_MAX,
    Answered,
    Contact,
    FieldServerPort,
    FoundEntitlement,
    PortError,
    ShownCertificate,
    made_reasons,
)
from tallystick.connections.calling import WatchedContext, cut_off, deadline, set_deadlines
from tallystick.connections.troubles import untrusted_certificate
from tallystick.domain.ids import Digest, EntitlementId
from tallystick.protocol import device_api, dry_run, tallyfile
from tallystick.protocol.device_api import (
    Identity,
    InboxResult,
    LicenseReport,
    Operation,
    ReasonNote,
    Wish,
    WrittenRequest,
)
from tallystick.protocol.dry_run import Ask, DryRun, DryRunAnswer
from tallystick.protocol.messages import LineReason
from tallystick.sentences import N_, _, way
from tallystick.structs import know

USER: Final = "administrator"
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
PROBE_SECONDS: Final = 10.0  # for the first question, which decides whether there is a route
PROBE_WHOLE_SECONDS: Final = 20.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
ANSWER_WHOLE_SECONDS: Final = 180.0
_SHOWN_CHARACTERS: Final = 200
_GIVE_PASSWORD: Final = way("add it again with --password-file", N_("“Another password” on its page"))
_PROBES: Final = frozenset({device_api.IDENTITY.path, "/v1/keys"})
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which Python's ssl has no name for
_CODE_UNAUTHORIZED: Final = 401
_CODE_TOO_MANY: Final = 429
_CODE_PROXY: Final = 407

ValueT = TypeVar("ValueT")


class RealNetwork:
    """Implements ``ports.Network``."""

    def __init__(self, *, trust_environment: bool = True, proxy: Proxy | None = None) -> None:
        self._trust_environment = trust_environment
        self._proxy = proxy
        self._kept: list[httpx2.Client] = []

    def close(self) -> None:
        """Let go of connections that were kept."""
        while self._kept:
            self._kept.pop().close()

    def certificate(self, address: str) -> ShownCertificate:
        """What an address shows in the handshake. Nothing is sent to it."""
        host, port = _host_and_port(address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # only to look: nothing is sent, and the caller compares the fingerprint
        try:
            with (
                cut_off(PROBE_WHOLE_SECONDS) as cut,
                self._connect(address, host, port) as plain,
                WatchedContext(context, cut).wrap_socket(plain, server_hostname=host) as secured,
            ):
                der = secured.getpeercert(binary_form=True)
        except (OSError, ValueError) as error:
            raise _unreachable(address, _reason(error)) from None
        if der is None:
            raise _unreachable(address, _("no certificate"))
        return ShownCertificate(certificate=ssl.DER_cert_to_PEM_cert(der), fingerprint=fingerprint_of(der))

    def _connect(self, address: str, host: str, port: int) -> socket.socket:
        proxy = self._field_server_proxy
        if proxy is None:
            return socket.create_connection((host, port), timeout=CONNECT_SECONDS)
        return open_tunnel(proxy, address, host, port)

    @property
    def _field_server_proxy(self) -> Proxy | None:
        return self._proxy if self._proxy is not None and self._proxy.is_for_field_servers else None

    @contextmanager
    def field_server(self, contact: Contact) -> Iterator[FieldServerPort]:
        """A field server at its pinned certificate."""
        proxy = self._field_server_proxy
        with httpx2.Client(
            base_url=contact.address,
            verify=_pinned_context(contact),
            trust_env=False,
            proxy=None if proxy is None else proxy.url,
        ) as client:
            set_deadlines(client)
            yield HttpsFieldServer(self, client, contact)

    def activation(self, url: str) -> HttpActivation:
        """An activation server. Its connections are kept until ``close``."""
        try:
            client = httpx2.Client(
                base_url=url,
                trust_env=self._trust_environment,
                proxy=None if self._proxy is None else self._proxy.url,
                limits=httpx2.Limits(
                    max_connections=FIELD_SERVERS_AT_ONCE_MAX, max_keepalive_connections=FIELD_SERVERS_AT_ONCE_MAX
                ),
            )
        except (httpx2.InvalidURL, ValueError, OSError) as error:
            raise _unreachable(url, _reason(error)) from None
        self._kept.append(client)
        set_deadlines(client)
        return HttpActivation(client, url)


class _FoundLine(msgspec.Struct):
    line: str
    available: int | None = None


class _Found(msgspec.Struct):
    certificate: str = ""
    lines: tuple[_FoundLine, ...] = ()


class _Said(msgspec.Struct):
    """What decides whether the rest can be read."""

    device_id: str
    protocol: int = device_api.VERSION
    software: str = "unknown"


class HttpsFieldServer:
    """Implements ``ports.FieldServerPort``."""

    def __init__(self, network: RealNetwork, client: httpx2.Client, contact: Contact) -> None:
        self._network = network
        self._client = client
        self._contact = contact

    def identity(self) -> Identity:
        """Who it is."""
        answer = self._ask(device_api.IDENTITY)
        self._check_version(answer)
        return self._read(answer, Identity)

    def licenses(self) -> LicenseReport:
        """What it holds, and what waits."""
        return self._read(self._ask(device_api.LICENSES), LicenseReport)

    def request(self, wish: Wish) -> WrittenRequest:
        """Have it write a message."""
        body = msgspec.json.encode(wish)
        answer = self._ask(device_api.REQUESTS, body)
        return self._read(answer, WrittenRequest)

    def outbox(self) -> bytes:
        """Its waiting messages."""
        return self._ask(device_api.OUTBOX)

    def inbox(self, tally: bytes) -> InboxResult:
        """Deliver a tally file."""
        answer = self._ask(device_api.INBOX, tally)
        return self._read(answer, InboxResult)

    def _ask(self, operation: Operation, body: bytes | None = None) -> bytes:
        password = self._contact.password
        if operation.needs_password and password is None:
            raise PortError(
                "password-wrong",
                expected=_("the password of the field server at {address}", address=self._contact.address),
                seen=_("none stored here"),
                next_step=_("Give its password once more: {way}.", way=_GIVE_PASSWORD),
            )
        auth = (USER, password) if operation.needs_password and password is not None else None
        try:
            headers = {} if body is None else {"Content-Type": operation.body_type}
            return _exchange(
                self._client, self._contact.address, operation.method, operation.path, body, headers, auth=auth
            )
        except ssl.SSLError as error:
            self._explain(error)
        except PortError as error:
            if error.code in {"not-found", "method-wrong"}:  # it is Tallystick's, and does not know what was asked
                raise self._another_version(
                    _("that it does not know {method} {path}", method=operation.method, path=operation.path)
                ) from None
            raise

    def _check_version(self, answer: bytes) -> None:
        """Before anything else of an answer is looked at, because another version may have changed all of it."""
        with suppress(msgspec.DecodeError):
            said = msgspec.json.decode(answer, type=_Said)
            if said.protocol != device_api.VERSION:
                raise self._another_version(
                    _(
                        "version {protocol}, of its software {software}",
                        protocol=said.protocol,
                        software=said.software[:40],
                    )
                )

    def _read(self, answer: bytes, kind: type[ValueT]) -> ValueT:
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.ValidationError as error:
            if b'"device_id"' in answer or kind is not Identity:
                raise self._another_version(_("an answer with another form ({error})", error=error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        return _convert(self._contact.address, answer, kind)

    def _another_version(self, seen: str) -> PortError:
        return PortError(
            "version-wrong",
            expected=_(
                "a field server that speaks version {version}, at {address}",
                version=device_api.VERSION,
                address=self._contact.address,
            ),
            seen=seen[:_SHOWN_CHARACTERS],
        )

    def _explain(self, error: ssl.SSLError) -> Never:
        """The handshake failed, so nothing was sent. Was it the certificate?"""
        shown = self._network.certificate(self._contact.address)
        if shown.fingerprint != self._contact.fingerprint:
            raise PortError(
                "certificate-changed",
                expected=_(
                    "{fingerprint}, pinned for {address}",
                    fingerprint=self._contact.fingerprint,
                    address=self._contact.address,
                ),
                seen=_("{fingerprint}; nothing was sent to it", fingerprint=shown.fingerprint),
            ) from None
        raise _unreachable(self._contact.address, _reason(error)) from None


class HttpActivation:
    """Implements ``ports.ActivationPort``. Its client may be used by many threads at once."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client = client
        self._url = url

    def keys(self) -> bytes:
        """The current keyset."""
        return self._ask("GET", "/v1/keys", None, {"Accept": tallyfile.MEDIA_TYPE})

    def exchange(self, envelopes: Sequence[str]) -> tuple[Answered, ...]:
        """Messages up, answers down."""
        body = b"".join(tallyfile.format_file(envelopes))
        headers = {"Accept": "application/json", "Content-Type": tallyfile.MEDIA_TYPE}
        rows = _convert(self._url, self._ask("POST", "/v1/messages", body, headers), list[dict[str, Any]])
        return tuple(_answered(self._url, row) for row in rows)

    def foresee(self, asks: Sequence[Ask]) -> DryRunAnswer:
        """What would be decided."""
        body = msgspec.json.encode(DryRun(asks=tuple(asks)))
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return _convert(self._url, self._ask("POST", dry_run.PATH, body, headers), DryRunAnswer)

    def lookup(self, entitlement_id: EntitlementId) -> FoundEntitlement:
        """The certificate of an entitlement."""
        body = msgspec.json.encode({"entitlement_id": entitlement_id})
        answer = self._ask(
            "POST", "/v1/entitlements/lookup", body, {"Accept": "application/json", "Content-Type": "application/json"}
        )
        found = _convert(self._url, answer, _Found)
        if not found.certificate:
            raise _unreachable(self._url, _("an entitlement without its certificate"))
        available = {line.line: line.available for line in found.lines if line.available is not None}
        return FoundEntitlement(certificate=found.certificate.strip(), available=available)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        try:
            return _exchange(self._client, self._url, method, path, body, headers)
        except ssl.SSLError as error:
            untrusted = untrusted_certificate(error)
            if untrusted is None:
                raise _unreachable(self._url, _reason(error)) from None
            raise PortError(
                "certificate-untrusted",
                expected=_("a certificate that this computer trusts, from {address}", address=self._url),
                seen=untrusted,
            ) from None


def fingerprint_of(der: bytes) -> str:
    """``SHA256:`` and the digest of the certificate in base64 without padding, as field servers print it."""
    return f"SHA256:{base64.b64encode(hashlib.sha256(der).digest()).rstrip(b'=').decode('ascii')}"


def _pinned_context(contact: Contact) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=contact.certificate)
    return context


def _exchange(
    client: httpx2.Client,
    address: str,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str] | None,
    *,
    auth: tuple[str, str] | None = None,
) -> bytes:
    """One exchange, within its limits. Raises ``PortError``, and ``ssl.SSLError`` when the handshake failed."""
    # Not compressed, so that the limit in bytes is one.
    sent = {"Accept": "application/json", **(headers or {}), "Accept-Encoding": "identity"}
    seconds, whole = (PROBE_SECONDS, PROBE_WHOLE_SECONDS) if path in _PROBES else (ANSWER_SECONDS, ANSWER_WHOLE_SECONDS)
    timeout = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
    try:
        with (
            deadline(whole),
            client.stream(method, path, content=body, headers=sent, auth=auth, timeout=timeout) as response,
        ):
            data = bytearray()
            for chunk in response.iter_raw():
                data += chunk
                if len(data) > ANSWER_BYTES_MAX:
                    raise _unreachable(address, _("an answer without end"))
    except httpx2.ProxyError as error:
        raise _proxy_refused(address, str(error)) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        refused = _ssl_error(error)
        if refused is not None:
            raise refused from None
        raise _unreachable(address, _reason(error)) from None
    if response.is_success:
        return bytes(data)
    if response.status_code == _CODE_PROXY:
        raise _proxy_refused(address, f"{response.status_code} {response.reason_phrase}")
    raise _problem(address, response, bytes(data))


def _proxy_refused(address: str, seen: str) -> PortError:
    return PortError(
        "proxy-refused",
        expected=_("a proxy that lets through to {address}", address=address),
        seen=_("{seen}, from it", seen=seen[:_SHOWN_CHARACTERS]),
    )


def _problem(address: str, response: httpx2.Response, data: bytes) -> PortError:
    """What the other side refused, with its code (RFC 9457), or what can be said without one."""
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        document = {}
    code = document.get("code")
    if not isinstance(code, str):
        if response.status_code == _CODE_UNAUTHORIZED:
            return PortError(
                "password-wrong",
                expected=_("the password of {address}", address=address),
                seen=_("one that it does not take"),
            )
        return _unreachable(
            address,
            _(
                "HTTP {status_code} {reason_phrase} without a code",
                status_code=response.status_code,
                reason_phrase=response.reason_phrase,
            ),
        )
    next_step = str(document.get("next_step") or "")
    if response.status_code == _CODE_TOO_MANY and "Retry-After" in response.headers:
        next_step = _(
            "Wait {seconds} seconds, then try again with the right password.",
            seconds=response.headers["Retry-After"][:10],
        )
    return PortError(
        code,
        expected=str(document.get("expected") or "") or _("what its documentation says"),
        seen=str(document.get("seen") or document.get("detail") or f"HTTP {response.status_code}"),
        next_step=next_step,
        reasons=_reasons(document.get("reasons")),
    )


def _reasons(value: object) -> tuple[LineReason, ...]:
    try:
        return made_reasons(msgspec.convert(value or [], tuple[ReasonNote, ...]))
    except msgspec.ValidationError:
        return ()


def _convert(address: str, data: bytes, kind: type[ValueT]) -> ValueT:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreachable(
            address, _("an answer that is not Tallystick's ({error})", error=str(error)[:_SHOWN_CHARACTERS])
        ) from None


def _answered(address: str, row: Mapping[str, Any]) -> Answered:
    reply = row.get("reply") or ()
    replies = reply.splitlines() if isinstance(reply, str) else reply
    digest = row.get("digest")
    if not isinstance(replies, list | tuple) or not all(isinstance(one, str) for one in replies):
        raise _unreachable(address, _("replies that are no envelopes"))
    return Answered(
        digest=Digest(digest) if isinstance(digest, str) else None,
        outcome=str(row.get("outcome") or ""),
        code=row.get("code") or None,
        detail=str(row.get("detail") or ""),
        next_step=str(row.get("next_step") or ""),
        replies=tuple(one.strip() for one in replies if one.strip()),
    )


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """The failed handshake inside a client's error, where there is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _unreachable(address: str, seen: str) -> PortError:
    return PortError("unreachable", expected=_("an answer from {address}", address=address), seen=seen)


def _reason(error: BaseException) -> str:
    """The innermost cause says it plainest: "Connection refused" rather than a chain of wrappers."""
    seen = error
    while True:
        inner = seen.__cause__ or seen.__context__
        if inner is None:
            break
        seen = inner
    if isinstance(seen, TimeoutError | httpx2.TimeoutException):
        return _("no whole answer in time")
    text = getattr(seen, "strerror", None) or str(seen) or type(seen).__name__
    return str(text)[:_SHOWN_CHARACTERS]


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise _unreachable(address, _("an address without a host"))
    return host, port or 443


know(_Found, _FoundLine, _Said)
