"""Commands about what was bought: entitlements, lines, the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.console import AsJson, By, Data, Database, Output
from tallystick.errors import Error

if TYPE_CHECKING:
    from tallystick.activation.app import Activation
    from tallystick.domain.entitlement import Entitlement, Line

entitlement_app = typer.Typer(no_args_is_help=True, help="What was bought: create, list, show, certificate.")
line_app = typer.Typer(no_args_is_help=True, help="One line of an entitlement: change its quantity or terms.")

EntitlementText = Annotated[str, typer.Argument(metavar="ENTITLEMENT", help="The entitlement ID, EN-...")]
LineText = Annotated[str, typer.Argument(metavar="LINE", help="The eight symbols of a line id, or an activation ID.")]


@entitlement_app.command(
    epilog="Example: tallystick activation entitlement create --data DIR --account Harbour --product smartdriver=6"
)
def create(
    data: Data,
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Who bought it.")],
    product: Annotated[list[str], typer.Option("--product", metavar="SKU=QTY", help="What, and how many; repeatable.")],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE", help="Until when, like 2027-12-31; else for ever.")
    ] = None,
    id_only: Annotated[bool, typer.Option("--id-only", help="Print the entitlement ID and nothing else.")] = False,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make an entitlement. Its products can be activated at once."""
    from tallystick.activation import accounts

    with console.opened(data, database, as_json=as_json) as activation:
        products = [console.parse_pair(pair, "smartdriver=6") for pair in product]
        expires_at = None if expires is None else console.parse_date(expires)
        who, now = console.person(by), activation.now()
        made = activation.transact(
            lambda transaction: accounts.create_entitlement(
                transaction,
                activation.signer,
                account=account,
                products=products,
                expires_at=expires_at,
                random_bytes=activation.random_bytes,
                by=who,
                now=now,
            )
        )
        if id_only:
            console.say(made.entitlement_id)
        elif as_json:
            console.print_json(_entitlement_view(made))
        else:
            _show_entitlement(made)
            console.say(
                f"Next: give {made.account} the entitlement ID, or its certificate: "
                f"tallystick activation entitlement certificate {made.entitlement_id} --data {data} -o FILE.tally"
            )


@entitlement_app.command("list", epilog="Example: tallystick activation entitlement list --data DIR")
def list_(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Every entitlement."""
    with console.opened(data, database, as_json=as_json) as activation:
        found = sorted(_all_entitlements(activation), key=lambda one: (one.created_at, one.entitlement_id))
        if as_json:
            console.print_json([_entitlement_view(one) for one in found])
            return
        rows = [
            (
                one.entitlement_id,
                one.account,
                console.moment(one.created_at),
                ", ".join(f"{line.balances.bought} {line.product.sku}" for line in one.lines),
            )
            for one in found
        ]
        empty = "No entitlements yet. Next: tallystick activation entitlement create --help"
        console.print_table(("Entitlement", "Account", "Created", "Products"), rows, empty=empty)


@entitlement_app.command(epilog="Example: tallystick activation entitlement show EN-... --data DIR")
def show(entitlement: EntitlementText, data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """One entitlement, with its activation IDs and where its rights are."""
    with console.opened(data, database, as_json=as_json) as activation:
        found = _load_entitlement(activation, entitlement)
        if as_json:
            console.print_json(_entitlement_view(found))
        else:
            _show_entitlement(found)


@entitlement_app.command(
    epilog="Example: tallystick activation entitlement certificate EN-... --data DIR -o bought.tally"
)
def certificate(
    entitlement: EntitlementText, data: Data, output: Output, database: Database = None, as_json: AsJson = False
) -> None:
    """Write the signed certificate by which Device Administrator learns an entitlement offline."""
    from tallystick.activation import accounts
    from tallystick.activation.files import save_file

    with console.opened(data, database, as_json=as_json) as activation:
        found = _load_entitlement(activation, entitlement)
        lines = accounts.certificate_file(found, activation.signer, now=activation.now())
        save_file(output, lines, mode=0o600)  # it holds activation IDs
        if as_json:
            console.print_json({"entitlement_id": found.entitlement_id, "file": str(output)})
        else:
            console.say(
                f"{output}: the certificate of {found.entitlement_id}. It holds the activation IDs: keep it safe."
            )
            console.say(f"Next, on the technician's computer: tallystick admin entitlement add {output.name}")


def lines(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Every line, and where its rights are."""
    with console.opened(data, database, as_json=as_json) as activation:
        found = sorted(_all_lines(activation), key=lambda line: (line.account, line.entitlement_id, line.product.sku))
        if as_json:
            console.print_json([line_view(line) for line in found])
            return
        names = ("Bought#", "Available#", "Held#", "Returning#", "Quarantined#", "Retired#")
        rows = [
            (
                line.line_id,
                line.product.sku,
                *(getattr(line.balances, name.rstrip("#").lower()) for name in names),
                _terms(line),
            )
            for line in found
        ]
        empty = "No lines yet. Next: tallystick activation entitlement create --help"
        console.print_table(("Line", "Product", *names, "Terms"), rows, empty=empty)


@line_app.command(
    epilog="Example: tallystick activation line change 7K3M9Q2A --quantity 10 --expires 2028-12-31 --data DIR"
)
def change(
    line: LineText,
    data: Data,
    *,
    quantity: Annotated[
        int | None, typer.Option("--quantity", metavar="N", help="How many there are from now on.")
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="DATE|never", help="Until when.")] = None,
    bought: Annotated[bool, typer.Option("--bought", help="Turn an engineering line into a bought one.")] = False,
    suspend: Annotated[
        bool | None, typer.Option("--suspend/--resume", help="Stop growth, or let it go on; nothing is taken away.")
    ] = None,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Raise, lower, extend, suspend, or turn engineering into bought. Field servers learn it at their next refresh."""
    from tallystick.activation import accounts
    from tallystick.domain.ids import parse_line_id

    with console.opened(data, database, as_json=as_json) as activation:
        wanted = accounts.LineChange(
            quantity=quantity,
            has_expiry=expires is not None,
            expires_at=None if expires is None else console.parse_date(expires),
            is_bought=bought,
            suspended=suspend,
        )
        if wanted == accounts.LineChange():
            raise Error("usage", expected="at least one of --quantity, --expires, --bought, --suspend", seen="none")
        line_id, who, now = parse_line_id(line), console.person(by), activation.now()
        after = activation.transact(
            lambda transaction: accounts.change_line(transaction, activation.signer, line_id, wanted, by=who, now=now)
        )
        if as_json:
            console.print_json(line_view(after))
        else:
            console.say(
                f"Line {after.line_id}: {accounts.quantity_of(after)} {after.product.sku}, "
                f"{after.balances.available} available, {_terms(after)}."
            )
            console.say("Next: a refresh brings it to the field servers that hold it (tallystick admin refresh --all).")


def ledger(line: LineText, data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Every entry of one line's ledger: which rights moved from where to where, when and why."""
    from tallystick.domain.ids import parse_line_id

    with console.opened(data, database, as_json=as_json) as activation:
        line_id = parse_line_id(line)
        entries = activation.read(lambda transaction: list(_entries(transaction, line_id)))
        if not entries:
            raise Error("not-found", expected="a line that exists here", seen=line_id)
        if as_json:
            console.print_json(entries)
            return
        rows = [
            (
                entry["number"],
                console.moment(entry["at"]),
                entry["quantity"],
                f"{entry['source']} to {entry['target']}",
                (entry["device_id"] or "")[:12],
                entry["cause"],
            )
            for entry in entries
        ]
        console.print_table(("Entry#", "At (UTC)", "Quantity#", "Moved", "Field server", "Cause"), rows, empty="None.")


def lift_freeze(
    data: Data,
    line: Annotated[
        list[str] | None, typer.Argument(metavar="[LINE]...", help="The lines that may grow again.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every line.")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """After a restore: let lines grow again, when enough field servers were heard from."""
    from tallystick.activation import returns
    from tallystick.domain.ids import parse_line_id

    with console.opened(data, database, as_json=as_json) as activation:
        if bool(line) is everything:
            raise Error("usage", expected="either lines or --all", seen="both" if everything else "neither")
        chosen = None if everything else [parse_line_id(one) for one in line or ()]
        now = activation.now()
        known = [] if chosen is None else activation.read(lambda transaction: transaction.load_lines_for_update(chosen))
        for missing in sorted(set(chosen or ()) - set(known)):
            raise Error("not-found", expected="a line that exists here", seen=missing)
        lifted = activation.transact(
            lambda transaction: returns.lift_freeze(transaction, activation.signer, chosen, now=now)
        )
        if as_json:
            console.print_json({"lifted": lifted})
        else:
            console.say(f"{lifted} lines may grow again.")


def line_view(line: Line) -> dict[str, Any]:
    """A line for programs."""
    balances = line.balances
    return {
        "line": line.line_id,
        "product": line.product.sku,
        "bought": balances.bought,
        "available": balances.available,
        "held": balances.held,
        "returning": balances.returning,
        "quarantined": balances.quarantined,
        "retired": balances.retired,
        "account": line.account,
        "entitlement_id": line.entitlement_id,
        "expires": line.expires_at,
        "engineering": line.engineering,
        "suspended": line.suspended,
        "frozen": line.frozen,
    }


def _entitlement_view(entitlement: Entitlement) -> dict[str, Any]:
    from tallystick.activation.accounts import quantity_of

    return {
        "entitlement_id": entitlement.entitlement_id,
        "account": entitlement.account,
        "created_at": entitlement.created_at,
        "lines": [
            {**line_view(line), "activation_id": str(line.activation_id), "quantity": quantity_of(line)}
            for line in entitlement.lines
        ],
    }


def _show_entitlement(entitlement: Entitlement) -> None:
    from tallystick.activation.accounts import quantity_of

    console.say(f"Entitlement {entitlement.entitlement_id} of {entitlement.account}")
    rows = [
        (
            line.line_id,
            line.product.sku,
            quantity_of(line),
            line.balances.available,
            _terms(line),
            line.activation_id,
        )
        for line in entitlement.lines
    ]
    console.print_table(
        ("Line", "Product", "Quantity#", "Available#", "Terms", "Activation ID"), rows, empty="No lines."
    )


def _terms(line: Line) -> str:
    expires = "for ever" if line.expires_at is None else f"until {console.moment(line.expires_at)}"
    marks = {"engineering": line.engineering, "suspended": line.suspended, "frozen": line.frozen}
    return ", ".join([expires, *(name for name, is_set in marks.items() if is_set)])


def _load_entitlement(activation: Activation, text: str) -> Entitlement:
    from tallystick.domain.ids import parse_entitlement_id

    entitlement_id = parse_entitlement_id(text)
    found = activation.read(lambda transaction: transaction.load_entitlement(entitlement_id))
    if found is None:
        raise Error("not-found", expected="an entitlement that exists here", seen=entitlement_id[:12])
    return found


def _all_entitlements(activation: Activation) -> list[Entitlement]:
    def load(transaction: Any) -> list[Entitlement]:
        found: list[Entitlement] = []
        while page := transaction.find_entitlements(after=found[-1].entitlement_id if found else None):
            found += page
        return found

    return activation.read(load)


def _all_lines(activation: Activation) -> list[Line]:
    def load(transaction: Any) -> list[Line]:
        found: list[Line] = []
        while page := transaction.find_lines(after=found[-1].line_id if found else None):
            found += page
        return found

    return activation.read(load)


def _entries(transaction: Any, line_id: str) -> Any:
    number = 0
    while page := transaction.find_entries(line_id, after=number):
        number = page[-1].number
        for entry in page:
            yield {
                "line": entry.line_id,
                "number": entry.number,
                "at": entry.booked_at,
                "quantity": entry.quantity,
                "source": entry.source.value,
                "target": entry.target.value,
                "device_id": entry.device_id,
                "cause": entry.cause,
                "chain": entry.chain,
            }
