"""The command ``tallystick fieldserver``. It works on the data directory, also beside the running agent.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nothing could be reached, 4 done in part.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tallystick.errors import Error
from tallystick.fieldserver.process import refusal_text
from tallystick.protocol.problems import WireError, problem_document
from tallystick.sentences import Sentence, _, spoken
from tallystick.terminal import plain, print_as_json, print_text, quoted

if TYPE_CHECKING:
    from rich.table import Table

    from tallystick.fieldserver.agent import DeliveryResult
    from tallystick.fieldserver.commissioning import Commissioned
    from tallystick.fieldserver.state import Wish

app = typer.Typer(
    name="fieldserver",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The field server: what runs on the device, and answers whether a feature may run.",
)

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
IN_PART: Final = 4
_SHOWN_MAX: Final = 1000
_BATCH_LINES: Final = 1000
_CHUNK_BYTES: Final = 1 << 20
_EXIT_CODES: Final = {"usage": USAGE, "quantity-wrong": USAGE, "unreachable": UNREACHABLE}

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The data directory that init made.")]
NewCertificate = Annotated[bool, typer.Option("--new-certificate", help="Also the certificate, so that no pin fits.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    epilog="Example: tallystick fieldserver init --data /var/lib/tallystick --kind AS-P --name plant-room --keys keys.tally"
)
def init(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A new or empty directory.")],
    kind: Annotated[str, typer.Option("--kind", help="The kind of field server, for example AS-P.")],
    name: Annotated[str, typer.Option("--name", help="What people call it.")],
    host_id: Annotated[
        str | None, typer.Option("--host-id", metavar="ID", help="Instead of an id made from this machine's own.")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="FINGERPRINT", help="The root of the activation server to pin: 43 symbols."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="FILE", help="A tally file with the keys of the activation server to pin."),
    ] = None,
    trust_first: Annotated[
        bool,
        typer.Option(
            "--trust-first", help="For trials: pin the root of whoever delivers keys first. It is shown everywhere."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a field server: its key, its certificate, its password. Name the root that it pins."""
    from tallystick.fieldserver import platform
    from tallystick.fieldserver.commissioning import commission
    from tallystick.protocol.answers import is_fingerprint

    with _told(as_json):
        if root is not None and not is_fingerprint(root):
            raise Error("usage", expected=_("--root with the 43 symbols of a root's fingerprint"), seen=repr(root[:60]))
        wish = platform.Settings(kind=kind, name=name, host_id=host_id, root=root, trust_first=trust_first)
        settings = platform.parse_settings(platform.encode_settings(wish), code="usage")
        made = commission(
            data,
            settings=settings,
            clock=platform.SystemClock(),
            random=platform.SystemRandom(),
            keys=None if keys is None else b"".join(_chunks(keys)),
        )
        _show_commissioned(made, as_json)
        if made.delivery is not None and made.delivery.has_errors:
            _say_errors(made.delivery)
            raise typer.Exit(IN_PART)


@app.command(epilog="Example: tallystick fieldserver run --data /var/lib/tallystick --host 0.0.0.0 --port 8443")
def run(
    data: Data,
    *,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8443,
    activation: Annotated[
        str | None,
        typer.Option("--activation", metavar="URL", help="The activation server, where there is an own route to it."),
    ] = None,
    announce: Annotated[
        bool, typer.Option("--announce", help="Say by multicast DNS that it is here: tallystick admin find.")
    ] = False,
    socket: Annotated[
        Path | None,
        typer.Option("--socket", metavar="PATH", help="Where programs ask; else check.sock in the data directory."),
    ] = None,
    socket_mode: Annotated[
        str, typer.Option("--socket-mode", metavar="OCTAL", help="Who may ask: 600, 660 or 666, for example.")
    ] = "600",
    socket_group: Annotated[
        str | None, typer.Option("--socket-group", metavar="GROUP", help="The group of the socket.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the agent with its HTTPS API until SIGTERM or Ctrl-C. Prints its address when it listens."""
    from importlib.util import find_spec

    from tallystick.fieldserver.process import become

    wanted = (
        "starlette",
        "uvicorn",
        *(() if activation is None else ("httpx2",)),
        *(("zeroconf",) if announce else ()),
    )
    for package in wanted:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    with _told(as_json):
        mode = _parse_mode(socket_mode)
    become(
        data=data,
        host=host,
        port=port,
        activation=activation,
        is_announced=announce,
        as_json=as_json,
        socket=socket,
        socket_mode=mode,
        socket_group=socket_group,
    )


@app.command(epilog="Example: tallystick fieldserver status --data /var/lib/tallystick")
def status(data: Data, as_json: AsJson = False) -> None:
    """Who this field server is, what it holds, and what is under way."""
    from tallystick.fieldserver import platform, views
    from tallystick.fieldserver.certificate import fingerprint_of
    from tallystick.fieldserver.commissioning import open_agent

    with _told(as_json):
        home = platform.load_home(data)
        clock = platform.SystemClock()
        state = open_agent(home, clock=clock, random=platform.SystemRandom()).peek()
        certificate = platform.read_file(data / platform.TLS_CERTIFICATE_FILE)
        identity = views.show_identity(home.device, state, fingerprint=fingerprint_of(certificate), activation=None)
        licenses = views.show_licenses(home.device, state, required={}, now=clock.now())
        view = views.plain(identity) | views.plain(licenses)
        if as_json:
            _print_json(view)
        else:
            _show_status(view)


@app.command("new-password", epilog="Example: tallystick fieldserver new-password --data /var/lib/tallystick")
def new_password(data: Data, new_certificate: NewCertificate = False, as_json: AsJson = False) -> None:
    """Replace the password of the API: whoever has the one before is out when this field server starts again."""
    from tallystick.fieldserver.commissioning import renew_access

    with _told(as_json):
        view = renew_access(data, new_certificate=new_certificate)
        if as_json:
            _print_json(view)
            return
        print_text(_("Password of the API: in {password_file}; certificate: {certificate_fingerprint}", **view))
        print_text(_("Next: start this field server again, then: tallystick admin add ... --password-file"))


@app.command(epilog="Example: tallystick fieldserver outbox --data /var/lib/tallystick -o request.tally")
def outbox(
    data: Data,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write a tally file; else to standard output.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The messages that wait, to carry to the activation server: the same bytes every time."""
    from tallystick.fieldserver import platform, views
    from tallystick.protocol.tallyfile import format_file

    with _told(as_json):
        waiting = _open(data).outbox()
        text = b"".join(format_file(message.compact for message in waiting))
        if output is not None:
            platform.write_file(output, text, is_named=True)
        if as_json:
            messages = [{**views.plain(views.show_waiting(message)), "message": message.compact} for message in waiting]
            _print_json(
                {"waiting": len(waiting), "file": None if output is None else str(output), "messages": messages}
            )
        elif output is None:
            print_text(text.decode("ascii").rstrip("\n"))
        else:
            print_text(
                _(
                    "{count} messages in {output}. Next: carry it to the activation server.",
                    count=len(waiting),
                    output=output,
                )
            )


@app.command(epilog="Example: tallystick fieldserver deliver response.tally --data /var/lib/tallystick")
def deliver(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A tally file; - reads standard input.")],
    data: Data,
    as_json: AsJson = False,
) -> None:
    """Take a tally file from the activation server. What is for somebody else in it does no harm."""
    from tallystick.fieldserver import views

    with _told(as_json):
        delivery, is_cut = _deliver(data, file)
        if as_json:
            _print_json({**views.plain(views.show_delivery(delivery)), "more": is_cut})
        else:
            _show_delivery(delivery)
        code = _delivery_exit_code(delivery)
        if code:
            _say_errors(delivery)
            raise typer.Exit(code)


@app.command(epilog="Example: tallystick fieldserver request return --all --data /var/lib/tallystick")
def request(
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help="activate, return, refresh or relinquish.")],
    data: Data,
    wants: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WHAT=QUANTITY]...", help="Activation IDs (activate) or lines (return): end states."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Return everything.")] = False,
    final: Annotated[
        bool, typer.Option("--final", help="With relinquish: this device is scrapped; it takes no license any more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a message to the outbox. Asked again while it waits, it is the same message."""
    from tallystick.fieldserver import views

    with _told(as_json):
        written = _open(data).ask(_parse_wish(purpose, wants or [], everything=everything, final=final))
        if as_json:
            _print_json(views.plain(views.show_written(written)))
        else:
            was = _("was waiting already") if written.is_repeated else _("is written")
            print_text(
                _(
                    "Message {sequence} ({purpose}) {was}. Next: carry the outbox to the activation server.",
                    sequence=written.message.sequence,
                    purpose=purpose,
                    was=was,
                )
            )


@app.command(epilog="Example: tallystick fieldserver check mqtt-client --used 1 --data /var/lib/tallystick")
def check(
    feature: Annotated[str, typer.Argument(help="The name of a feature.")],
    data: Data,
    used: Annotated[int, typer.Option("--used", min=0, metavar="N", help="How many units the software needs.")] = 1,
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root", metavar="FINGERPRINT", help="As a program that names this root (or several) would decide."
        ),
    ] = None,
    answer: Annotated[
        bool, typer.Option("--answer", help="Print the signed answer that programs get at the socket.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """May this feature run? Exit code 0 if it may, 1 if not. Without --root: under whatever root it has pinned."""
    from tallystick.fieldserver import checks, views

    if answer:
        with _told(as_json):
            print_text(_answer(data, feature, used).rstrip("\n"))
            return
    verdict = (checks.open(data, root=root) if root else checks.of_agent(data)).check(feature, used)
    if as_json:
        _print_json(views.plain(views.show_verdict(verdict)) | {"code": verdict.code})
    else:
        print_text(
            f"{feature}: {verdict.standing}" + ("" if verdict.code == verdict.standing else f" ({verdict.code})")
        )
    if not verdict.is_licensed:
        print_text(f"{feature}: {verdict.why}", error=True)
        raise typer.Exit(REFUSED)


# What commands share


@contextlib.contextmanager
def _told(as_json: bool) -> Iterator[None]:
    """A refusal becomes a sentence on standard error and an exit code."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(REFUSED) from None
    except Error as error:
        if as_json:
            _print_json(problem_document(error))
        print_text(refusal_text(error), error=True)
        raise typer.Exit(_EXIT_CODES.get(error.code, REFUSED)) from None


def _open(data: Path) -> Any:
    from tallystick.fieldserver import platform
    from tallystick.fieldserver.commissioning import open_agent

    return open_agent(platform.load_home(data), clock=platform.SystemClock(), random=platform.SystemRandom())


def _answer(data: Path, feature: str, required: int) -> str:
    from tallystick.fieldserver import checks, platform
    from tallystick.fieldserver.answering import Answerer
    from tallystick.protocol import answers
    from tallystick.protocol.envelope import encode_base64url

    nonce = encode_base64url(platform.SystemRandom().bytes(answers.NONCE_BYTES))
    question = answers.parse_target(answers.Question(feature=feature, required=required, nonce=nonce).target)
    device = platform.load_home(data).device
    answerer = Answerer(device=device, checks=checks.of_agent(data), clock=platform.SystemClock())
    return answerer.answer(question).decode()


def _chunks(file: Path) -> Iterator[bytes]:
    try:
        with contextlib.ExitStack() as stack:
            stream = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise Error(
            "not-found", expected=_("a file {file} that can be read", file=file), seen=str(error.strerror)
        ) from None


def _deliver(data: Path, file: Path) -> tuple[DeliveryResult, bool]:
    """In parts, each durable, so that a file of any length fits into memory. Keys first, wherever they stand.

    Also: whether there were more lines than are kept for showing.
    """
    from tallystick.fieldserver.agent import DeliveryResult, LineResult
    from tallystick.protocol.messages import KEYS
    from tallystick.protocol.tallyfile import BadLine, GoodLine, parse_chunks

    agent = _open(data)
    kept: list[LineResult] = []
    seen, waiting, batch = 0, 0, list[GoodLine | BadLine]()

    def hand_over() -> None:
        nonlocal seen, waiting
        delivery = agent.deliver(batch)
        seen, waiting = seen + len(delivery.lines), delivery.waiting
        # Of the many, those that did something are kept before those that did not.
        kept.extend(delivery.lines)
        if len(kept) > _SHOWN_MAX:
            kept.sort(key=lambda line: line.received.effect == "error")
            del kept[_SHOWN_MAX:]
        batch.clear()

    turns = (True, False) if str(file) != "-" else (None,)
    for is_turn_of_keys in turns:
        for line in parse_chunks(_chunks(file)):
            is_keys = isinstance(line, GoodLine) and line.envelope.typ == KEYS
            if is_turn_of_keys is None or is_keys is is_turn_of_keys:
                batch.append(line)
            if len(batch) >= _BATCH_LINES:
                hand_over()
    hand_over()
    kept.sort(key=lambda line: line.line_number)
    return DeliveryResult(lines=tuple(kept), waiting=waiting), seen > len(kept)


def _delivery_exit_code(delivery: DeliveryResult) -> int:
    """A file with nothing usable is refused; one with lines that are broken was taken in part."""
    errors = [line.received.code for line in delivery.lines if line.received.effect == "error"]
    if len(errors) == len(delivery.lines):
        return REFUSED
    return IN_PART if any(code != "device-wrong" for code in errors) else 0


def _parse_wish(purpose: str, wants: list[str], *, everything: bool, final: bool) -> Wish:
    from tallystick.fieldserver.views import make_wish
    from tallystick.protocol import device_api

    ends = [_parse_end(want) for want in wants]
    if final and purpose != "relinquish":
        raise Error("usage", expected=_("--final with relinquish only"), seen=_("{purpose} --final", purpose=purpose))
    match purpose, bool(ends), everything:
        case "activate", True, False:
            activations = (device_api.ActivateWant(activation_id=what, quantity=number) for what, number in ends)
            return make_wish(device_api.ActivateWish(wants=tuple(activations)))
        case "return", True, False:
            returns = (device_api.ReturnWant(line=what, quantity=number) for what, number in ends)
            return make_wish(device_api.ReturnWish(wants=tuple(returns)))
        case "return", False, True:
            return make_wish(device_api.ReturnWish(all=True))
        case "refresh", False, False:
            return make_wish(device_api.RefreshWish())
        case "relinquish", False, False:
            return make_wish(device_api.RelinquishWish(final=final))
        case _:
            raise Error(
                "usage",
                expected=_("activate AT-...=N, return LINE=N, return --all, refresh or relinquish"),
                seen=" ".join(
                    [purpose, *(["--all"] if everything else []), *(f"...={number}" for _other, number in ends)]
                ),
            )


def _parse_mode(text: str) -> int:
    if re.fullmatch("0?[0-7]{3}", text) is None:
        raise Error("usage", expected=_("--socket-mode with three octal digits, for example 660"), seen=repr(text[:20]))
    return int(text, 8)


def _parse_end(text: str) -> tuple[str, int]:
    what, equals, number = text.rpartition("=")
    if not equals or not number.isascii() or not number.isdigit() or len(number) > 12:
        raise Error("quantity-wrong", expected=_("WHAT=QUANTITY, for example 7K3M9Q2A=2"), seen=repr(number[:20]))
    return what, int(number)


# Showing


def _print_json(value: object) -> None:
    print_as_json(value)


def _show_commissioned(made: Commissioned, as_json: bool) -> None:
    device = made.home.device
    view = {
        "device_id": device.device_id,
        "kind": device.facts.kind,
        "name": device.facts.name,
        "certificate_fingerprint": made.certificate_fingerprint,
        "password_file": str(made.password_file),
        "root_fingerprint": device.root,
        "trust": str(device.trust),  # never "unrecorded": it was asked for
    }
    if as_json:
        _print_json(view)
        return
    print_text(
        _(
            "{name} ({kind}) is field server {device_id}.",
            name=view["name"],
            kind=view["kind"],
            device_id=view["device_id"],
        )
    )
    print_text(
        _(
            "Certificate: {certificate_fingerprint} (compare it when Device Administrator shows it)",
            certificate_fingerprint=view["certificate_fingerprint"],
        )
    )
    print_text(_("Password of the API: in {password_file}", password_file=view["password_file"]))
    print_text(_trust_sentence(str(device.trust), device.root))
    print_text(_("Next: tallystick fieldserver run --data {directory}", directory=quoted(made.home.directory)))


def _trust_sentence(trust: str | None, root: str | None) -> Sentence:
    """How it comes to the root that it pins, wherever people look at it."""
    match trust:
        case "named":
            return _("Root {root} was named when this field server was set up.", root=root)
        case "first-delivery":
            return _("For trials only: this field server trusts whoever delivers keys first (--trust-first).")
        case _:
            return _("An earlier release set this field server up: it trusts whoever delivered keys first.")


def _show_status(view: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    about = _("({kind}), field server {device}", kind=_plain(view["kind"]), device=_plain(view["device_id"]))
    console.print(f"[b]{_plain(view['name'])}[/b] {spoken(about)}")
    issuer = _plain(view["issuer"]) if view["issuer"] else _("none known yet")
    certificate = _plain(view["certificate_fingerprint"])
    console.print(
        spoken(_("Certificate {certificate}; activation server: {issuer}", certificate=certificate, issuer=issuer))
    )
    console.print(spoken(_trust_sentence(view.get("trust"), view.get("named_root"))))
    licenses = _table(_("Licenses"), _("Line"), _("Product"), _("Quantity"), _("Expires"))
    for row in view["licenses"]:
        expires = _moment(row["expires"]) + (spoken(_(" (expired)")) if row["expired"] else "")
        product = row["product"] + (spoken(_(" (engineering)")) if row["engineering"] else "")
        licenses.add_row(_plain(row["line"]), _plain(product), str(row["quantity"]), expires)
    features = _table(_("Features"), _("Feature"), _("Activated"), _("Standing"))
    for row in view["features"]:
        features.add_row(_plain(row["feature"]), str(row["activated"]), _plain(row["standing"]))
    waiting = _table(_("Waiting for a reply"), _("Message"), _("Purpose"), _("Written"))
    for row in view["outbox"]:
        waiting.add_row(str(row["sequence"]), _plain(row["purpose"]), _moment(row["written_at"]))
    outcomes = _table(_("Answered lately"), _("Message"), _("Purpose"), _("Outcome"), _("Detail"))
    for row in view["outcomes"][-5:]:
        outcomes.add_row(
            str(row["sequence"]), _plain(row["purpose"]), _plain(row["code"] or row["outcome"]), _plain(row["detail"])
        )
    for table in (licenses, features, waiting, outcomes):
        if table.row_count:
            console.print(table)
    if not view["licenses"]:
        console.print(spoken(_("No licenses are held.")))
    if view["rolled_back_at"] is not None:
        moment = _moment(view["rolled_back_at"])
        sentence = _("This field server was found to have been rolled back, at {moment}.", moment=moment)
        console.print(f"[b]{spoken(sentence)}[/b]")


def _table(title: str | None, *headers: str) -> Table:
    from rich.table import Table

    return Table(*map(spoken, headers), title=title and spoken(title), title_justify="left")


def _show_delivery(delivery: DeliveryResult) -> None:
    from rich.console import Console

    table = _table(None, _("Line"), _("Kind"), _("Outcome"), _("Detail"))
    for line in delivery.lines:
        received = line.received
        table.add_row(
            str(line.line_number),
            _plain(received.kind),
            _plain(received.code or received.effect),
            _plain(received.detail),
        )
    console = Console()
    if table.row_count:
        console.print(table)
    if delivery.waiting:
        print_text(
            _(
                "{count} messages wait in the outbox. Next: carry them to the activation server.",
                count=delivery.waiting,
            )
        )
    else:
        print_text(_("0 messages wait in the outbox."))


def _say_errors(delivery: DeliveryResult) -> None:
    if not delivery.lines:
        error = WireError("not-text", expected=_("a tally file with at least one envelope"), seen=_("none"))
        print_text(refusal_text(error), error=True)
    for line in delivery.lines:
        if line.received.effect == "error":
            print_text(
                _(
                    "Line {line_number}: {code}: {detail}",
                    line_number=line.line_number,
                    code=line.received.code,
                    detail=line.received.detail,
                ),
                error=True,
            )


def _plain(text: object) -> str:
    from rich.markup import escape

    return escape(plain(text))


def _moment(seconds: int | None) -> str:
    from tallystick.domain.dates import moment_text

    return "never" if seconds is None else moment_text(seconds)
