"""Where a verb is said: the management API, of a data directory (``--data``) or of a running server (``--url``).

Every verb is written once, against the API; which of the two it speaks to is an option. A remote server is spoken to
with the standard library and a token; a data directory by its API in this process, as its operator, so that a local
command checks, books and writes the audit trail as a request does.
"""

from __future__ import annotations

import contextlib
import http.client
import inspect
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec, get_type_hints
from urllib.parse import quote, urlencode, urlsplit

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.console import AsJson, Database
from tallystick.connections.calling import CutOff, WatchedContext, cut_off
from tallystick.connections.troubles import untrusted_certificate
from tallystick.domain.text import folded, normal, pasted
from tallystick.errors import Error
from tallystick.protocol.messages import LineReason
from tallystick.protocol.problems import BY_CODE
from tallystick.sentences import _

SECONDS_MAX: Final = 60  # for each read
WHOLE_SECONDS_MAX: Final = 300
URL_VARIABLE: Final = "TALLYSTICK_URL"
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
_TOKEN_BYTES_MAX: Final = 4096
_TRIES_MAX: Final = 5
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}

Send = Callable[[str, str, Mapping[str, str], bytes | None], tuple[int, Mapping[str, str], bytes]]
P = ParamSpec("P")

DataOrUrl = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="The data directory that init made; or --url.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help=f"A running activation server instead, https://... as a rule; or {URL_VARIABLE}."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", envvar="TALLYSTICK_TOKEN_FILE", help="With --url: a file with a token."
    ),
]
ByHere = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="With --data: who does it, for the trail; else the name of this login."),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="An idempotency key: the same again within a day is done once."),
]


class ProblemError(Error):
    """What the API refused, with a reason per line where there are several."""

    def __init__(self, code: str, *, expected: str, seen: str, reasons: Sequence[LineReason] = ()) -> None:
        super().__init__(code, expected=expected, seen=seen)
        self.reasons = tuple(reasons)


@dataclass(slots=True)
class ApiClient:
    """One activation server, here or elsewhere."""

    send: Send
    as_json: bool = False
    has_changed: bool = field(default=False, init=False)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
        key: str | None = None,
    ) -> Any:
        """The document of the answer. Raises ``Error`` with the code of the problem, or ``unreachable``."""
        sent = dict(headers or {}) | ({"Idempotency-Key": key} if key else {})
        return json.loads(self.fetch(method, path, body, headers=sent, query=query)[0])

    def fetch(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> tuple[bytes, str]:
        """The body of the answer, and its ETag."""
        sent = dict(headers or {})
        content = body if isinstance(body, bytes) else None
        if body is not None and content is None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        chosen = {name: value for name, value in (query or {}).items() if value not in (None, "", ())}
        status, told, data = self.send(
            method, path + (f"?{urlencode(chosen, doseq=True)}" if chosen else ""), sent, content
        )
        if status >= HTTPStatus.BAD_REQUEST:
            raise _error_of(status, data)
        self.has_changed |= method != "GET"
        return data, told.get("etag", "")

    def all(self, path: str, *, cursor: str = "after", **query: object) -> list[Any]:
        """Every item of a list, page by page."""
        items: list[Any] = []
        place: str | None = None
        while True:
            found = self.request("GET", path, query={**query, "limit": 200, cursor: place})
            items += found["items"]
            place = found["next"]
            if place is None:
                return items

    def change(self, method: str, path: str, body: object) -> Any:
        """Change what has versions. Who names what is to be, and not what was, is not kept by others' changes."""
        for tries in range(_TRIES_MAX):
            _other, version = self.fetch("GET", path)
            try:
                return self.request(method, path, body, headers={"If-Match": version})
            except Error as error:
                if error.code != "changed-meanwhile" or tries == _TRIES_MAX - 1:
                    raise
        raise AssertionError("the last try returns or raises")

    def device(self, text: str) -> str:
        """The id of the field server that a person means. Raises ``Error`` (``not-found``, ``ambiguous``)."""
        text = normal(pasted(text))
        found: list[dict[str, Any]] = self.all("/v1/field-servers", text=text[:128]) if text.isprintable() else []
        found = [
            server
            for server in found
            if text == server["device_id"]
            or folded(text) in {folded(server["name"]), folded(server["host_id"])}
            or (len(text) >= console.PREFIX_LENGTH_MIN and server["device_id"].startswith(text))
        ]
        found = [server for server in found if server["device_id"] == text] or found
        if not text or not found:
            raise Error("not-found", expected=_("a field server that is known there"), seen=repr(text[:60]))
        if len(found) > 1:
            seen = ", ".join(f"{one['device_id'][:12]} ({one['name']}, {one['status']})" for one in found[:5])
            seen += _(" and {count} more", count=len(found) - 5) if len(found) > 5 else ""
            raise Error("ambiguous", expected=_("a name or a beginning that fits one field server"), seen=seen)
        return str(found[0]["device_id"])

    def show(
        self, rows: Sequence[Any], columns: Sequence[tuple[str, str]], *, empty: str, rest: str | None = None
    ) -> None:
        """A list: as JSON as it is, or (header, name) of each column as a table. ``rest``: how to see what is left out."""
        if self.as_json:
            console.print_json(list(rows))
            return
        shown = [[_cell(name, row.get(name)) for _other, name in columns] for row in rows]
        console.print_table([header for header, _other in columns], shown, empty=empty)
        if rest is not None:
            console.say(_("These are {count}; there are more: {rest}", count=len(shown), rest=rest))

    def show_result(self, document: object, *sentences: str) -> None:
        """One document as JSON, or sentences for people."""
        if self.as_json:
            console.print_json(document)
            return
        for sentence in sentences:
            console.say(sentence)

    def show_one(self, document: Mapping[str, Any]) -> None:
        """One document: as JSON, or a name and a value in each row."""
        rows = [{"name": name.replace("_", " "), "value": _cell(name, value)} for name, value in document.items()]
        if self.as_json:
            console.print_json(document)
        else:
            console.print_table(
                (_("What"), _("Value")), [(row["name"], row["value"]) for row in rows], empty=_("Nothing.")
            )

    def save(
        self, output: Path, content: bytes, document: Mapping[str, Any], *sentences: str, mode: int = 0o644
    ) -> None:
        """Write a tally file, and say so."""
        from tallystick.activation.files import save_named_file

        save_named_file(output, [content], mode=mode)
        self.show_result({**document, "file": os.fspath(output)}, *sentences)


def segment(text: str) -> str:
    """One part of a path. The API knows no empty one."""
    return quote(text, safe="") or "%00"


@contextlib.contextmanager
def reached(
    data: Path | None,
    url: str | None,
    token_file: Path | None,
    *,
    by: str | None = None,
    database: str | None = None,
    as_json: bool,
) -> Iterator[ApiClient]:
    """The activation server that is meant; refusals are printed."""
    if data is None:
        with console.report_errors(as_json):
            url = url or os.environ.get(URL_VARIABLE)
            if url is None:
                raise Error(
                    "usage",
                    expected=_(
                        "--data DIR, or --url URL (or {url_variable}) with --token-file", url_variable=URL_VARIABLE
                    ),
                    seen=_("neither"),
                )
            if by is not None:
                raise Error("usage", expected=_("--by with --data only: a token says who it is"), seen=_("--url"))
            yield ApiClient(_Line(url.rstrip("/"), _token(token_file)).send, as_json)
        return
    with console.report_errors(as_json):
        if url is not None:
            raise Error("usage", expected=_("either --data or --url"), seen=_("both"))
    with console.opened(data, database, as_json=as_json) as activation:
        from tallystick.activation.core.permissions import operator
        from tallystick.activation.server.in_process import InProcessClient

        client = ApiClient(InProcessClient(activation, operator(console.person(by))).send, as_json)
        yield client
        if client.has_changed:
            activation.settle()  # a waiting period of no days is over at once


def verb(function: Callable[Concatenate[ApiClient, P], None]) -> Callable[..., None]:
    """A command that is said to a ``ApiClient``: with the options that say which, in front of those of the verb."""
    own = inspect.signature(function, eval_str=True)
    where: dict[str, Any] = {
        "data": DataOrUrl,
        "url": Url,
        "token_file": TokenFile,
        "by": ByHere,
        "database": Database,
        "as_json": AsJson,
    }

    def command(**options: Any) -> None:
        chosen = {name: options.pop(name) for name in where}
        with reached(
            chosen["data"],
            chosen["url"],
            chosen["token_file"],
            by=chosen["by"],
            database=chosen["database"],
            as_json=chosen["as_json"],
        ) as client:
            function(client, **options)  # type: ignore[call-arg]  # by name, as typer gives them

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        parameter.replace(kind=keyword) for name, parameter in list(own.parameters.items())[1:] if name not in where
    ]
    parameters += [
        inspect.Parameter(name, keyword, default=False if name == "as_json" else None, annotation=hint)
        for name, hint in where.items()
    ]
    hints = get_type_hints(function, include_extras=True)
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {
        parameter.name: hints.get(parameter.name, parameter.annotation) for parameter in parameters
    }
    return command


@dataclass(frozen=True, slots=True)
class _Line:
    """A running activation server, and the token to speak with it."""

    url: str
    token: str

    def send(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """See ``InProcessClient.send``. Raises ``Error`` (``unreachable``)."""
        sent = {**headers, "Authorization": f"Bearer {self.token}"}
        with cut_off(WHOLE_SECONDS_MAX) as cut:
            connection = self._connection(cut)
            try:
                connection.connect()
                if connection.sock is not None and not isinstance(connection.sock, ssl.SSLSocket):
                    cut.watch(connection.sock)
                connection.request(method, urlsplit(self.url).path.rstrip("/") + target, body=content, headers=sent)
                response = connection.getresponse()
                data = response.read(ANSWER_BYTES_MAX + 1)
                if len(data) > ANSWER_BYTES_MAX:
                    raise Error(
                        "unreachable",
                        expected=_("at most {answer_bytes_max} bytes", answer_bytes_max=ANSWER_BYTES_MAX),
                        seen=_("an answer without end"),
                    )
                return response.status, {name.lower(): value for name, value in response.getheaders()}, data
            except (OSError, http.client.HTTPException) as error:
                untrusted = untrusted_certificate(error)
                if untrusted is not None:
                    expected = _("a certificate that this computer trusts, from {address}", address=self.url)
                    raise Error("certificate-untrusted", expected=expected, seen=untrusted) from error
                seen = _("no whole answer in time") if cut.is_over else str(error)[:200]
                raise Error("unreachable", expected=_("an answer from {url}", url=self.url), seen=seen) from error
            finally:
                connection.close()

    def _connection(self, cut: CutOff) -> http.client.HTTPConnection:
        address = urlsplit(self.url)
        host = address.hostname or ""
        if address.scheme == "https" and host:
            context: Any = WatchedContext(ssl.create_default_context(), cut)
            return http.client.HTTPSConnection(host, address.port, timeout=SECONDS_MAX, context=context)
        if address.scheme == "http" and host in _LOOPBACK:
            return http.client.HTTPConnection(host, address.port, timeout=SECONDS_MAX)
        raise Error(
            "usage",
            expected=_("https://..., or http://... on this machine: a token goes over no open line"),
            seen=self.url[:80],
        )


def _token(token_file: Path | None) -> str:
    if token_file is None:
        raise Error("usage", expected=_("--token-file FILE (or TALLYSTICK_TOKEN_FILE) beside --url"), seen=_("none"))
    try:
        with token_file.open(encoding="ascii", errors="replace") as file:
            token = file.read(_TOKEN_BYTES_MAX).strip()
    except OSError as error:
        raise Error(
            "not-found",
            expected=_("the token file {token_file}", token_file=token_file),
            seen=error.strerror or str(error),
        ) from error
    if not token.isascii() or not token.isprintable() or not token:
        raise Error("token-wrong", expected=_("a token in {token_file}", token_file=token_file), seen=_("none"))
    return token


def _error_of(status: int, data: bytes) -> Error:
    try:
        document = json.loads(data)
        code, expected, seen = (str(document[name]) for name in ("code", "expected", "seen"))
        reasons = [
            LineReason(**{name: one[name] for name in LineReason.__struct_fields__})
            for one in document.get("reasons", ())
        ]
    except (ValueError, KeyError, TypeError):
        code, expected, seen, reasons = (
            "unreachable",
            _("an activation server"),
            _("an answer with status {status}", status=status),
            [],
        )
    if code not in BY_CODE:  # a newer one
        code, expected, seen = "unreachable", _("an activation server of this version"), f"{code}: {seen}"
    return ProblemError(code, expected=expected, seen=seen, reasons=reasons)


def _cell(name: str, value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name.endswith("_at") or name == "at"):
        return console.moment(value)
    if isinstance(value, int) and name.endswith("_seconds"):
        return console.age(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else value
