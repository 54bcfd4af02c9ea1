"""Verbs about what was bought: the catalog, entitlements, lines, the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.client import ApiClient, Key, segment, verb
from tallystick.activation.commands.console import AsJson, By, Data, Database, Output
from tallystick.domain.dates import parse_moment
from tallystick.errors import Error
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.sentences import _, spoken
from tallystick.terminal import arguments, quoted

if TYPE_CHECKING:
    from tallystick.activation.core.freezes import OpenAfterRestore

entitlement_app = typer.Typer(no_args_is_help=True, help="What was bought: create, list, show, certificate.")
line_app = typer.Typer(no_args_is_help=True, help="One line of an entitlement: show it, change its quantity or terms.")

EntitlementText = Annotated[
    str, typer.Argument(metavar="ENTITLEMENT", help="The reference ER-..., or the entitlement ID EN-...")
]
LineText = Annotated[str, typer.Argument(metavar="LINE", help="The eight symbols of a line id, or an activation ID.")]
AccountText = Annotated[str | None, typer.Option("--account", metavar="NAME", help="Only of this account.")]


@entitlement_app.command(
    epilog="Example: tallystick activation entitlement create --data DIR --account Harbour --product smartdriver=6"
)
@verb
def create(
    client: ApiClient,
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Who bought it; made if it is new.")],
    product: Annotated[list[str], typer.Option("--product", metavar="SKU=QTY", help="What, and how many; repeatable.")],
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="DATE", help="Until the end of a day (UTC), like 2027-12-31; else for ever."),
    ] = None,
    id_only: Annotated[bool, typer.Option("--id-only", help="Print the entitlement ID and nothing else.")] = False,
    key: Key = None,
) -> None:
    """Make an entitlement. Its products can be activated at once."""
    from tallystick.activation.core.entitlements import check_text

    products = [console.parse_pair(pair, "smartdriver=6") for pair in product]
    for _other, quantity in products:
        if not 1 <= quantity <= QUANTITY_MAX:
            raise Error(
                "quantity-wrong",
                expected=_("a quantity from 1 to {quantity_max}", quantity_max=QUANTITY_MAX),
                seen=str(quantity),
            )
    body = {
        "account": check_text(account, _("an account name")),
        "products": [{"product": sku, "quantity": quantity} for sku, quantity in products],
        "expires_at": None if expires is None else console.parse_expiry(expires),
        "is_new_account": True,
    }
    made = client.request("POST", "/v1/entitlements", body, key=key)
    if id_only:
        console.say(made["entitlement_id"])
    else:
        _show_entitlement(client, made)
    if not id_only and not client.as_json:
        console.say(
            _(
                "Next: give {account} the entitlement ID, or its certificate: tallystick activation entitlement certificate {entitlement} -o FILE.tally",
                account=made["account"],
                entitlement=quoted(made["entitlement"]),
            )
        )


@entitlement_app.command("list", epilog="Example: tallystick activation entitlement list --data DIR")
@verb
def list_(client: ApiClient, account: AccountText = None) -> None:
    """Every entitlement, oldest first."""
    found = client.all("/v1/entitlements", cursor="before", account=account)[::-1]
    if client.as_json:
        console.print_json([_entitlement_view(one) for one in found])
        return
    rows = [
        (
            one["entitlement"],
            one["account"],
            console.moment(one["created_at"]),
            ", ".join(f"{line['bought']} {line['product']}" for line in one["lines"]),
        )
        for one in found
    ]
    empty = _("No entitlements yet. Next: tallystick activation entitlement create --help")
    console.print_table((_("Entitlement"), _("Account"), _("Created"), _("Products")), rows, empty=empty)


@entitlement_app.command(epilog="Example: tallystick activation entitlement show ER-... --data DIR")
@verb
def show(client: ApiClient, entitlement: EntitlementText) -> None:
    """One entitlement, and where its rights are. What opens it is shown by `entitlement reveal`."""
    _show_entitlement(client, client.request("GET", f"/v1/entitlements/{_entitlement_id(entitlement)}"))


@entitlement_app.command(epilog="Example: tallystick activation entitlement reveal ER-... --data DIR")
@verb
def reveal(client: ApiClient, entitlement: EntitlementText) -> None:
    """Show the entitlement ID and the activation IDs. Who did stands in the audit trail."""
    _show_entitlement(client, client.request("POST", f"/v1/entitlements/{_entitlement_id(entitlement)}/reveal"))


@entitlement_app.command(epilog="Example: tallystick activation entitlement rotate-secret ER-... --data DIR")
@verb
def rotate_secret(client: ApiClient, entitlement: EntitlementText, key: Key = None) -> None:
    """Replace the entitlement ID and the activation IDs, after somebody saw them who should not. What is held stays."""
    path = f"/v1/entitlements/{_entitlement_id(entitlement)}/rotate-secret"
    _show_entitlement(client, client.request("POST", path, key=key))


@entitlement_app.command(
    epilog="Example: tallystick activation entitlement certificate ER-... --data DIR -o bought.tally"
)
@verb
def certificate(client: ApiClient, entitlement: EntitlementText, output: Output) -> None:
    """Write the signed certificate by which Device Administrator learns an entitlement offline."""
    reference = _entitlement_id(entitlement)
    content, _other = client.fetch("POST", f"/v1/entitlements/{reference}/certificate")
    client.save(
        output,
        content,
        {"entitlement": reference},
        _(
            "{output}: the certificate of {reference}. It holds the activation IDs: keep it safe.",
            output=output,
            reference=reference,
        ),
        _("Next, on the technician's computer: tallystick admin entitlement add {name}", name=arguments(output.name)),
        mode=0o600,
    )


@verb
def lines(
    client: ApiClient,
    account: AccountText = None,
    product: Annotated[str | None, typer.Option("--product", metavar="SKU", help="Only of this product.")] = None,
    expires_before: Annotated[
        str | None,
        typer.Option("--expires-before", metavar="DATE", help="Only what ends before this day begins (UTC)."),
    ] = None,
    used_up: Annotated[bool, typer.Option("--used-up", help="Only those of which nothing is available.")] = False,
) -> None:
    """Every line, and where its rights are."""
    query: dict[str, Any] = {
        "account": account,
        "product": product,
        "expires_before": parse_moment(expires_before, is_end=False) if expires_before else None,
        "used_up": "true" if used_up else None,
    }
    found = client.all("/v1/lines", **query)
    found.sort(key=lambda line: (line["account"], line["entitlement"], line["product"]))
    if client.as_json:
        console.print_json([_line_view(line) for line in found])
        return
    names = ("bought", "available", "held", "returning", "quarantined", "retired")
    rows = [(line["line"], line["product"], *(line[name] for name in names), _terms(line)) for line in found]
    empty = _("No lines yet. Next: tallystick activation entitlement create --help")
    console.print_table(
        (_("Line"), _("Product"), *(f"{name.title()}#" for name in names), _("Terms")), rows, empty=empty
    )


@line_app.command("show", epilog="Example: tallystick activation line show 7K3M9Q2A --data DIR")
@verb
def show_line(client: ApiClient, line: LineText) -> None:
    """One line: its terms, and where its rights are."""
    client.show_one(_line_view(client.request("GET", f"/v1/lines/{_line_id(line)}")))


@line_app.command("reveal", epilog="Example: tallystick activation line reveal 7K3M9Q2A --data DIR")
@verb
def reveal_line(client: ApiClient, line: LineText) -> None:
    """Show the activation ID. Who did stands in the audit trail."""
    client.show_one(_line_view(client.request("POST", f"/v1/lines/{_line_id(line)}/reveal")))


@line_app.command("rotate-secret", epilog="Example: tallystick activation line rotate-secret 7K3M9Q2A --data DIR")
@verb
def rotate_line_secret(client: ApiClient, line: LineText, key: Key = None) -> None:
    """Replace the activation ID. Where the entitlement ID is known, too, replace that (entitlement rotate-secret)."""
    client.show_one(_line_view(client.request("POST", f"/v1/lines/{_line_id(line)}/rotate-secret", key=key)))


@line_app.command(epilog="Example: tallystick activation line holders 7K3M9Q2A --data DIR")
@verb
def holders(client: ApiClient, line: LineText) -> None:
    """Who holds rights of a line."""
    found = client.all(f"/v1/lines/{_line_id(line)}/holders")
    columns = [
        (_("Name"), "device_name"),
        (_("Field server"), "device_id"),
        (_("Held#"), "held"),
        (_("Returning#"), "returning"),
    ]
    client.show(found, [*columns, (_("Quarantined#"), "quarantined"), (_("Since"), "since_at")], empty=_("Nobody."))


@line_app.command(
    epilog="Example: tallystick activation line change 7K3M9Q2A --quantity 10 --expires 2028-12-31 --data DIR"
)
@verb
def change(
    client: ApiClient,
    line: LineText,
    *,
    quantity: Annotated[
        int | None,
        typer.Option("--quantity", metavar="N", min=0, max=QUANTITY_MAX, help="How many there are from now on."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE|never", help="Until the end of a day (UTC), or for ever.")
    ] = None,
    bought: Annotated[bool, typer.Option("--bought", help="Turn an engineering line into a bought one.")] = False,
    suspend: Annotated[
        bool | None, typer.Option("--suspend/--resume", help="Stop growth, or let it go on; nothing is taken away.")
    ] = None,
) -> None:
    """Raise, lower, extend, suspend, or turn engineering into bought. Field servers learn it at their next refresh."""
    body: dict[str, object] = {} if quantity is None else {"quantity": quantity}
    if expires is not None:
        body["expires_at"] = console.parse_expiry(expires)
    if suspend is not None:
        body["suspended"] = suspend
    if bought:
        body["is_bought"] = True
    if not body:
        raise Error("usage", expected=_("at least one of --quantity, --expires, --bought, --suspend"), seen=_("none"))
    after = client.change("PATCH", f"/v1/lines/{_line_id(line)}", body)
    client.show_result(
        _line_view(after),
        _(
            "Line {line}: {quantity} {product}, {available} available, {terms}.",
            line=after["line"],
            quantity=after["quantity"],
            product=after["product"],
            available=after["available"],
            terms=_terms(after),
        ),
        _("Next: a refresh brings it to the field servers that hold it (tallystick admin refresh --all)."),
    )


@verb
def ledger(
    client: ApiClient,
    line: Annotated[str | None, typer.Argument(metavar="[LINE]", help="The entries of one line; else of all.")] = None,
    device: Annotated[
        str | None, typer.Option("--field-server", metavar="DEVICE", help="Only of this field server.")
    ] = None,
    account: AccountText = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DATE", help="Only what was booked from the beginning of this day (UTC)."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="DATE", help="Only what was booked until the end of this day (UTC)."),
    ] = None,
) -> None:
    """The ledger, oldest first: which rights moved from where to where, when and why."""
    line_id = None if line is None else _line_id(line)
    if line_id is not None:
        client.request("GET", f"/v1/lines/{line_id}")  # one that does not exist is no empty one
    found = client.all(
        "/v1/ledger",
        cursor="before",
        line=line_id,
        device_id=client.device(device) if device else None,
        account=account,
        since=parse_moment(since, is_end=False) if since else None,
        until=parse_moment(until, is_end=True) + 1 if until else None,
    )[::-1]
    if client.as_json:
        console.print_json([{**entry, "at": entry["booked_at"]} for entry in found])
        return
    rows = [
        (
            entry["line"],
            entry["number"],
            console.moment(entry["booked_at"]),
            entry["quantity"],
            f"{entry['source']} to {entry['target']}",
            (entry["device_id"] or "")[:12],
            entry["cause"],
        )
        for entry in found
    ]
    headers = (_("Line"), _("Entry#"), _("At (UTC)"), _("Quantity#"), _("Moved"), _("Field server"), _("Cause"))
    console.print_table(headers, rows, empty=_("No entries."))


def lift_freeze(
    data: Data,
    line: Annotated[
        list[str] | None, typer.Argument(metavar="[LINE]...", help="The lines that may grow again.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every line.")] = False,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """After a restore: let lines grow again, when enough field servers were heard from."""
    from dataclasses import asdict

    from tallystick.activation.core import interventions
    from tallystick.activation.core.freezes import survey_restore
    from tallystick.activation.core.permissions import operator
    from tallystick.activation.services import record
    from tallystick.activation.storage import SqlTransaction
    from tallystick.domain.ids import parse_line_id

    with console.opened(data, database, as_json=as_json) as activation:
        if bool(line) is everything:
            raise Error("usage", expected=_("either lines or --all"), seen=_("both") if everything else _("neither"))
        chosen = None if everything else [parse_line_id(one) for one in line or ()]
        caller, now = operator(console.person(by)), activation.now()

        def lift(transaction: SqlTransaction) -> tuple[int, OpenAfterRestore]:
            known = transaction.load_lines_for_update(chosen or ())
            for missing in sorted(set(chosen or ()) - set(known)):
                raise Error("not-found", expected=_("a line that exists here"), seen=missing)
            lifted = interventions.lift_freeze(transaction, activation.signer, chosen, now=now)
            found = survey_restore(transaction, chosen)
            target = ", ".join(chosen or ["every line"])[:200]
            detail = f"{lifted} lines; {found.unheard} field servers not heard from, {found.missing_rights} rights below zero"
            record(transaction, caller, "freeze-lift", target, account=None, now=now, detail=detail)
            return lifted, found

        lifted, found = activation.transact(lift)
        if as_json:
            console.print_json({"lifted": lifted} | asdict(found))
            return
        console.say(_("{lifted} lines may grow again.", lifted=lifted))
        if found.restored_at is not None:
            _say_what_may_be_out(found)


def _say_what_may_be_out(found: OpenAfterRestore) -> None:
    if found.unheard:
        console.say(
            _(
                "Still out: {unheard} field servers were not heard from since the restore. "
                "{rights} rights of these lines are kept for them; they may hold others by now.",
                unheard=found.unheard,
                rights=found.unheard_rights,
            )
        )
    if found.below_zero:
        console.say(
            _(
                "{lines} lines are below zero, by {rights} rights: more is in use than was bought. Return some, or sell more.",
                lines=found.below_zero,
                rights=found.missing_rights,
            )
        )
    console.say(
        _(
            "What was enrolled after the backup and has not spoken since is not known here, and is in no number. Throw away "
            "sticks and files from before the restore: docs/operations/backup.md says which."
        )
    )


def _line_view(line: dict[str, Any]) -> dict[str, Any]:
    """A line for programs: the document of the API, with the promised names in front."""
    names = ("line", "product", "bought", "available", "held", "returning", "quarantined", "retired")
    return {name: line[name] for name in names} | line | {"expires": line["expires_at"]}


def _entitlement_view(entitlement: dict[str, Any]) -> dict[str, Any]:
    return entitlement | {"lines": [_line_view(line) for line in entitlement["lines"]]}


def _show_entitlement(client: ApiClient, entitlement: dict[str, Any]) -> None:
    if client.as_json:
        console.print_json(_entitlement_view(entitlement))
        return
    console.say(
        _(
            "Entitlement {entitlement} of {account}",
            entitlement=entitlement["entitlement"],
            account=entitlement["account"],
        )
    )
    if entitlement.get("entitlement_id"):
        console.say(_("Entitlement ID: {entitlement_id}", entitlement_id=entitlement["entitlement_id"]))
    has_ids = any(line.get("activation_id") for line in entitlement["lines"])
    rows = [
        (
            *(line["line"], line["product"], line["quantity"], line["available"], _terms(line)),
            *([line["activation_id"]] if has_ids else []),
        )
        for line in entitlement["lines"]
    ]
    headers = (
        _("Line"),
        _("Product"),
        _("Quantity#"),
        _("Available#"),
        _("Terms"),
        *([_("Activation ID")] if has_ids else []),
    )
    console.print_table(headers, rows, empty=_("No lines."))


def _terms(line: dict[str, Any]) -> str:
    moment = line["expires_at"]
    expires = _("for ever") if moment is None else _("until {moment}", moment=console.moment(moment))
    return ", ".join([spoken(expires), *(name for name in ("engineering", "suspended", "frozen") if line[name])])


def _line_id(text: str) -> str:
    from tallystick.domain.ids import parse_line_id

    return segment(parse_line_id(text))


def _entitlement_id(text: str) -> str:
    from tallystick.domain.ids import parse_entitlement_id, parse_entitlement_reference
    from tallystick.domain.text import symbols_of

    is_reference = symbols_of(text).startswith("ER")
    return segment(parse_entitlement_reference(text) if is_reference else parse_entitlement_id(text))
