"""``tallystick activation remote``: the main verbs against a running activation server, with a token.

Nothing of this runs the activation server's code: it is its management API, spoken with the standard library. With
``--json``, the documents of the API are printed as they came.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.console import AsJson, Output
from tallystick.errors import Error
from tallystick.protocol import tallyfile
from tallystick.protocol.problems import BY_CODE

app = typer.Typer(no_args_is_help=True, help="The same verbs against a running activation server, with a token.")

SECONDS_MAX: Final = 60
_ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
_TOKEN_BYTES_MAX: Final = 4096
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}

Url = Annotated[
    str,
    typer.Option("--url", metavar="URL", envvar="TALLYSTICK_URL", help="The activation server, https://... as a rule."),
]
TokenFile = Annotated[
    Path,
    typer.Option(
        "--token-file", metavar="FILE", envvar="TALLYSTICK_TOKEN_FILE", help="A file with the token of the page People."
    ),
]
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device id, a name or host id, or part of it.")]
LineText = Annotated[str, typer.Argument(metavar="LINE", help="A line id.")]


@dataclass(frozen=True, slots=True)
class Remote:
    """A running activation server, and the token to speak with it."""

    url: str
    token: str

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Any:
        """The document that it answers with. Raises ``Error`` with the code of the problem, or ``unreachable``."""
        return json.loads(self.bytes(method, path, body, headers=headers, query=query)[0])

    def bytes(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> tuple[bytes, str]:
        """What it answers with, and the ETag."""
        sent = dict(headers or {}) | {"Authorization": f"Bearer {self.token}"}
        content = body if isinstance(body, bytes) else None
        if body is not None and content is None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        chosen = {name: value for name, value in (query or {}).items() if value is not None}
        address = urlsplit(self.url)
        target = f"{address.path.rstrip('/')}{path}" + (f"?{urlencode(chosen)}" if chosen else "")
        connection = self._connection()
        try:
            connection.request(method, target, body=content, headers=sent)
            response = connection.getresponse()
            data = response.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise Error("unreachable", expected=f"an answer from {self.url}", seen=str(error)[:200]) from error
        finally:
            connection.close()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise _error_of(response.status, data)
        return data, response.headers.get("ETag", "")

    def all(self, path: str, *, cursor: str = "after", **query: object) -> list[Any]:
        """Every item of a list, page by page."""
        items: list[Any] = []
        place: str | None = None
        while True:
            found = self.ask("GET", path, query={**query, "limit": 200, cursor: place})
            items += found["items"]
            place = found["next"]
            if place is None:
                return items

    def device(self, text: str) -> dict[str, Any]:
        """The field server that a person means. Raises ``Error`` (``not-found``, ``ambiguous``)."""
        found: list[dict[str, Any]] = self.all("/v1/field-servers", text=text)
        exact = [server for server in found if text in {server["device_id"], server["name"], server["host_id"]}]
        found = exact or found
        if not found:
            raise Error("not-found", expected="a field server that is known there", seen=repr(text[:60]))
        if len(found) > 1:
            seen = ", ".join(f"{server['device_id'][:12]} ({server['name']})" for server in found[:5])
            raise Error("ambiguous", expected="a text that fits one field server", seen=seen)
        return found[0]

    def _connection(self) -> http.client.HTTPConnection:
        address = urlsplit(self.url)
        host = address.hostname or ""
        if address.scheme == "https" and host:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, address.port, timeout=SECONDS_MAX, context=context)
        if address.scheme == "http" and host in _LOOPBACK:
            return http.client.HTTPConnection(host, address.port, timeout=SECONDS_MAX)
        raise Error(
            "usage",
            expected="https://..., or http://... on this machine: a token goes over no open line",
            seen=self.url[:80],
        )


def _error_of(status: int, data: bytes) -> Error:
    try:
        document = json.loads(data)
        code, expected, seen = (str(document[name]) for name in ("code", "expected", "seen"))
    except (ValueError, KeyError, TypeError):
        code, expected, seen = "unreachable", "an activation server", f"an answer with status {status}"
    if code not in BY_CODE:  # a newer one
        code, expected, seen = "unreachable", "an activation server of this version", f"{code}: {seen}"
    return Error(code, expected=expected, seen=seen)


def _open(url: str, token_file: Path) -> Remote:
    try:
        with token_file.open(encoding="ascii", errors="replace") as file:
            token = file.read(_TOKEN_BYTES_MAX).strip()
    except OSError as error:
        raise Error("not-found", expected=f"the token file {token_file}", seen=error.strerror or str(error)) from error
    if not token.isascii() or not token.isprintable() or not token:
        raise Error("token-wrong", expected=f"a token in {token_file}", seen="none")
    return Remote(url.rstrip("/"), token)


def _show(rows: Sequence[Any], columns: Sequence[tuple[str, str]], *, empty: str, as_json: bool) -> None:
    if as_json:
        console.print_json(list(rows))
        return
    shown = [[_cell(name, row.get(name)) for _, name in columns] for row in rows]
    console.print_table([header for header, _ in columns], shown, empty=empty)


def _cell(name: str, value: object) -> object:
    if isinstance(value, int) and name.endswith("_at"):
        return console.moment(value)
    if isinstance(value, int) and name.endswith("_seconds"):
        return console.age(value)
    return "" if value is None else value


@app.command(epilog="Example: tallystick activation remote lines --url URL --token-file FILE")
def lines(url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """Lines, and where their rights are."""
    names = ("bought", "available", "held", "returning", "quarantined", "retired")
    columns = [("Line", "line"), ("Account", "account"), ("Product", "product")]
    columns += [(f"{name.title()}#", name) for name in names]
    with console.told(as_json):
        _show(_open(url, token_file).all("/v1/lines"), columns, empty="No lines.", as_json=as_json)


@app.command(epilog="Example: tallystick activation remote returns --url URL --token-file FILE")
def returns(url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """Open returns, oldest first: since when, where each stands, what to carry where."""
    columns = [("Name", "device_name"), ("Line", "line"), ("Quantity#", "quantity")]
    columns += [("Open for", "age_seconds"), ("Stands", "stands"), ("Next", "next_step")]
    with console.told(as_json):
        _show(_open(url, token_file).all("/v1/returns"), columns, empty="No open returns.", as_json=as_json)


@app.command("field-servers", epilog="Example: tallystick activation remote field-servers --url URL --token-file FILE")
def field_servers(
    url: Url,
    token_file: TokenFile,
    text: Annotated[str, typer.Option("--search", metavar="TEXT", help="Part of a name, host id or device id.")] = "",
    as_json: AsJson = False,
) -> None:
    """Field servers, and what they hold."""
    columns = [("Name", "name"), ("Kind", "kind"), ("Field server", "device_id"), ("Status", "status")]
    columns += [("Account", "account"), ("Heard from", "last_seen_at")]
    with console.told(as_json):
        found = _open(url, token_file).all("/v1/field-servers", text=text or None)
        _show(found, columns, empty="No field servers.", as_json=as_json)


@app.command(epilog="Example: tallystick activation remote incidents --url URL --token-file FILE")
def incidents(url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """What was noticed, newest first, and what a person can do."""
    columns = [
        ("At (UTC)", "at"),
        ("Kind", "kind"),
        ("Name", "device_name"),
        ("Detail", "detail"),
        ("Next", "next_step"),
    ]
    with console.told(as_json):
        found = _open(url, token_file).all("/v1/incidents", cursor="before")
        _show(found, columns, empty="No incidents.", as_json=as_json)


@app.command(epilog="Example: tallystick activation remote ledger 7K3M9Q2A --url URL --token-file FILE")
def ledger(line: LineText, url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """The entries of one line, newest first."""
    columns = [("Entry#", "number"), ("At (UTC)", "booked_at"), ("From", "source"), ("To", "target")]
    columns += [("Quantity#", "quantity"), ("Because", "cause")]
    with console.told(as_json):
        found = _open(url, token_file).all("/v1/ledger", cursor="before", line=line)
        _show(found, columns, empty="No entries.", as_json=as_json)


@app.command(epilog="Example: tallystick activation remote trail --url URL --token-file FILE")
def trail(url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """Who did what, newest first."""
    columns = [("At (UTC)", "at"), ("Who", "actor"), ("Did", "action"), ("To", "target"), ("Detail", "detail")]
    with console.told(as_json):
        found = _open(url, token_file).all("/v1/trail", cursor="before")
        _show(found, columns, empty="Nothing yet.", as_json=as_json)


@app.command(
    epilog="Example: tallystick activation remote sell --account Harbour --product smartdriver=5 --url URL ..."
)
def sell(
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Who bought it; made if it is new.")],
    product: Annotated[list[str], typer.Option("--product", metavar="SKU=QTY", help="What was bought; repeatable.")],
    url: Url,
    token_file: TokenFile,
    *,
    expires: Annotated[str, typer.Option("--expires", metavar="DATE|never", help="Until when.")] = "never",
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="An idempotency key: the same again is done once.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an entitlement."""
    with console.told(as_json):
        remote = _open(url, token_file)
        pairs = [console.parse_pair(text, "smartdriver=5") for text in product]
        headers = {"Idempotency-Key": key} if key else {}
        try:
            remote.ask("POST", "/v1/accounts", {"account": account})
        except Error as error:
            if error.code != "exists-already":
                raise
        body = {
            "account": account,
            "products": [{"product": sku, "quantity": quantity} for sku, quantity in pairs],
            "expires_at": console.parse_date(expires),
        }
        made = remote.ask("POST", "/v1/entitlements", body, headers=headers)
        if as_json:
            console.print_json(made)
        else:
            console.say(f"Entitlement {made['entitlement_id']} of {made['account']}")
            _show(
                made["lines"],
                [("Line", "line"), ("Product", "product"), ("Quantity#", "quantity")],
                empty="",
                as_json=False,
            )


@app.command(
    epilog="Example: tallystick activation remote certificate EN-... -o FILE.tally --url URL --token-file FILE"
)
def certificate(
    entitlement: Annotated[str, typer.Argument(metavar="ENTITLEMENT", help="An entitlement ID.")],
    output: Output,
    url: Url,
    token_file: TokenFile,
    as_json: AsJson = False,
) -> None:
    """Fetch the certificate of an entitlement."""
    with console.told(as_json):
        path = f"/v1/entitlements/{quote(entitlement, safe='')}/certificate"
        _save(output, _open(url, token_file).bytes("GET", path)[0], as_json=as_json)


@app.command(
    "change-line", epilog="Example: tallystick activation remote change-line 7K3M9Q2A --quantity 10 --url URL ..."
)
def change_line(
    line: LineText,
    url: Url,
    token_file: TokenFile,
    *,
    quantity: Annotated[int | None, typer.Option("--quantity", metavar="N", help="How many from now on.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="DATE|never", help="Until when.")] = None,
    bought: Annotated[bool, typer.Option("--bought", help="Turn an engineering line into a bought one.")] = False,
    suspend: Annotated[bool | None, typer.Option("--suspend/--resume", help="Stop growth, or let it go on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Raise, lower, extend, suspend, or turn engineering into bought."""
    with console.told(as_json):
        body: dict[str, object] = {} if quantity is None else {"quantity": quantity}
        if expires is not None:
            body["expires_at"] = console.parse_date(expires)
        if suspend is not None:
            body["suspended"] = suspend
        if bought:
            body["is_bought"] = True
        if not body:
            raise Error("usage", expected="at least one of --quantity, --expires, --bought, --suspend", seen="none")
        remote = _open(url, token_file)
        path = f"/v1/lines/{quote(line, safe='')}"
        _, version = remote.bytes("GET", path)
        after = remote.ask("PATCH", path, body, headers={"If-Match": version})
        if as_json:
            console.print_json(after)
        else:
            console.say(
                f"Line {after['line']}: {after['quantity']} {after['product']}, {after['available']} available."
            )


@app.command(
    "return", epilog="Example: tallystick activation remote return roof -o FILE.tally --url URL --token-file FILE"
)
def start_return(device: Device, output: Output, url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """Start a return of everything that a field server holds."""
    with console.told(as_json):
        remote = _open(url, token_file)
        started = remote.ask("POST", f"/v1/field-servers/{remote.device(device)['device_id']}/return")
        _save(output, started["file"].encode(), as_json=as_json, said=started["next_step"])


@app.command(
    "declare-lost", epilog="Example: tallystick activation remote declare-lost roof --reason burnt --url URL ..."
)
def declare_lost(
    device: Device,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")],
    url: Url,
    token_file: TokenFile,
    *,
    override: Annotated[bool, typer.Option("--override", help="Beyond the yearly limit, in your name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Declare a dead field server lost."""
    _do("lost", device, url, token_file, {"reason": reason, "override": override}, as_json=as_json)


@app.command(
    epilog="Example: tallystick activation remote hold roof --reason 'two were seen' --url URL --token-file FILE"
)
def hold(
    device: Device,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")],
    url: Url,
    token_file: TokenFile,
    as_json: AsJson = False,
) -> None:
    """Put a field server on hold."""
    _do("hold", device, url, token_file, {"reason": reason}, as_json=as_json)


@app.command(epilog="Example: tallystick activation remote release roof --url URL --token-file FILE")
def release(device: Device, url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """End a hold."""
    _do("release", device, url, token_file, None, as_json=as_json)


@app.command(epilog="Example: tallystick activation remote retire roof --url URL --token-file FILE")
def retire(device: Device, url: Url, token_file: TokenFile, as_json: AsJson = False) -> None:
    """Take a field server that holds nothing out of service."""
    _do("retire", device, url, token_file, None, as_json=as_json)


@app.command(epilog="Example: tallystick activation remote message up.tally -o down.tally --url URL --token-file FILE")
def message(
    file: Annotated[Path, typer.Argument(metavar="FILE.tally", help="The file that was carried here.")],
    output: Output,
    url: Url,
    token_file: TokenFile,
    as_json: AsJson = False,
) -> None:
    """Deliver the messages of a tally file and write the replies."""
    with console.told(as_json):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise Error("not-found", expected=f"the file {file}", seen=error.strerror or str(error)) from error
        headers = {"Content-Type": tallyfile.MEDIA_TYPE, "Accept": tallyfile.MEDIA_TYPE}
        _save(
            output, _open(url, token_file).bytes("POST", "/v1/messages", content, headers=headers)[0], as_json=as_json
        )


def _do(act: str, device: str, url: str, token_file: Path, body: object, *, as_json: bool) -> None:
    with console.told(as_json):
        remote = _open(url, token_file)
        after = remote.ask("POST", f"/v1/field-servers/{remote.device(device)['device_id']}/{act}", body)
        if as_json:
            console.print_json(after)
        else:
            console.say(f"{after['name']} is {after['status']}.")


def _save(output: Path, content: bytes, *, as_json: bool, said: str = "") -> None:
    from tallystick.activation.files import save_file

    save_file(output, [content])
    if as_json:
        console.print_json({"file": os.fspath(output)})
    else:
        console.say(f"{output}: written. {said}".rstrip())
