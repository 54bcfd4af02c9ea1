"""From what a person types to field servers, lines, checked assignments and goals. Only ``assign`` changes something.

Refuses with ``Error``: ``not-found``, ``ambiguous``, ``quantity-wrong``, ``kind-mismatch``, ``not-enough``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from tallystick.administrator.core.goals import Activate, Goal
from tallystick.administrator.core.ways import ADD, ADD_ENTITLEMENT, ASSIGN, GIVE_BACK
from tallystick.administrator.memory.inventory import Assignment, FieldServerRecord, Inventory, KnownLine
from tallystick.administrator.ports import PortError
from tallystick.domain.dates import moment_text
from tallystick.domain.ids import DeviceId, IdError, LineId, parse_activation_id, parse_line_id
from tallystick.domain.text import folded, is_among, pasted, symbols_of
from tallystick.errors import Error
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.sentences import _

DEVICE_PREFIX_MIN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLine:
    """A line that a person named. ``activation_id`` is None where only its id is known, enough for a return."""

    line_id: LineId
    activation_id: str | None = field(default=None, repr=False)
    known: KnownLine | None = None


def choose_field_servers(
    inventory: Inventory, selectors: Sequence[str] | None, *, is_everyone: bool
) -> list[FieldServerRecord]:
    """The named ones, or all. Raises ``Error`` (``usage``) where both or neither is said."""
    every = inventory.field_servers()
    if is_everyone == bool(selectors):
        raise Error(
            "usage", expected=_("field servers by name, or --all"), seen=_("both") if is_everyone else _("neither")
        )
    if is_everyone and not every:
        raise Error("not-found", expected=_("a field server in the list"), seen=_("none so far"))
    return every if is_everyone else find_field_servers(every, selectors or ())


def assign(
    inventory: Inventory,
    pairs: Sequence[str],
    chosen: Sequence[FieldServerRecord],
    *,
    now: int | None,
    ask: Callable[[Collection[LineId]], bool] = lambda _line_ids: False,
) -> list[Assignment]:
    """Check every ``LINE=QTY`` for every field server, then plan all of it, or nothing. ``now`` None: only check.

    ``ask``: has the activation server say what is available of lines, before there is not enough by what is known here.
    """
    try:
        assignments = _check_pairs(inventory, pairs, chosen)
    except Error as error:
        lines = inventory.lines()
        if error.code != "not-enough" or not ask({_line_of(text, lines, chosen) for text in pairs}):
            raise
        assignments = _check_pairs(inventory, pairs, chosen)
    if now is not None:
        inventory.plan(assignments, now=now)
    return assignments


def _line_of(pair: str, lines: Mapping[LineId, KnownLine], chosen: Sequence[FieldServerRecord]) -> LineId:
    return choose_line(parse_pair(pair)[0], lines, chosen).line_id


def _check_pairs(inventory: Inventory, pairs: Sequence[str], chosen: Sequence[FieldServerRecord]) -> list[Assignment]:
    lines, plan, names = inventory.lines(), inventory.assignments(), inventory.names()
    for gone in inventory.departed():  # what it holds is as little free as what is planned
        names[gone.device_id] = gone.name
        plan.append(
            Assignment(device_id=gone.device_id, line_id=gone.line_id, activation_id="", quantity=gone.quantity)
        )
    held = {record.device_id: record.held for record in inventory.field_servers()}
    assignments: list[Assignment] = []
    for text in pairs:
        line, quantity = parse_pair(text)
        found = choose_line(line, lines, chosen)
        assignments += check_assignments(found, quantity, chosen, plan=plan, names=names, held=held)
    keys = {(one.device_id, one.line_id) for one in assignments}
    if len(keys) != len(assignments):
        raise Error("line-twice", expected=_("each line once"), seen=_("one of {count} lines twice", count=len(pairs)))
    return assignments


def activation_goals(
    plan: Sequence[Assignment], chosen: Sequence[FieldServerRecord], *, is_everyone: bool
) -> dict[DeviceId, Goal]:
    """What is planned, as goals. With all field servers, those without a plan are left out; a named one must have one."""
    wants: dict[DeviceId, list[Assignment]] = {}
    for assignment in plan:
        wants.setdefault(assignment.device_id, []).append(assignment)
    without = [record.name for record in chosen if record.device_id not in wants]
    if without and (not is_everyone or len(without) == len(chosen)):
        raise PortError(
            "not-found",
            expected=_("a plan for {without}", without=", ".join(without[:10])),
            seen=_("none"),
            next_step=_("Assign licenses first: {assign}.", assign=ASSIGN),
        )
    return {
        record.device_id: Activate(wants=tuple(wants[record.device_id]))
        for record in chosen
        if record.device_id in wants
    }


def find_field_servers(every: Sequence[FieldServerRecord], selectors: Iterable[str]) -> list[FieldServerRecord]:
    """The field servers that are named by name, by device id or its beginning, or by address; each once."""
    found: dict[DeviceId, FieldServerRecord] = {}
    for selector in selectors:
        record = find_field_server(every, selector)
        found[record.device_id] = record
    return list(found.values())


def find_field_server(every: Sequence[FieldServerRecord], selector: str) -> FieldServerRecord:
    """The one that ``selector`` names."""
    selector = pasted(selector)
    address = _plain_address(selector)
    fits = [record for record in every if selector == record.device_id]
    fits = fits or [record for record in every if selector == record.name or address == _plain_address(record.address)]
    fits = fits or [record for record in every if folded(selector) == folded(record.name)]
    if not fits and len(selector) >= DEVICE_PREFIX_MIN:
        fits = [record for record in every if record.device_id.startswith(selector)]
    if not fits:
        names = ", ".join(record.name for record in every[:10]) or _("none so far; {add} adds one", add=ADD)
        raise Error("not-found", expected=_("a field server in the list ({names})", names=names), seen=repr(selector))
    if len(fits) > 1:
        ids = ", ".join(f"{record.device_id[:12]} at {record.address}" for record in fits)
        raise Error(
            "ambiguous", expected=_("one field server by {selector!r}", selector=selector), seen=f"{len(fits)}: {ids}"
        )
    return fits[0]


def normal_address(text: str) -> str:
    """The URL of a field server, completed with ``https://``. Raises ``Error`` (``usage``) for anything but HTTPS."""
    full = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError:
        raise Error("usage", expected=_("an address like https://10.0.0.7:8443"), seen=text) from None
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.path.strip("/"):
        raise Error("usage", expected=_("an HTTPS address like https://10.0.0.7:8443"), seen=text)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}" + (f":{port}" if port else "")


def parse_pair(text: str) -> tuple[str, int]:
    """``LINE=QTY``. Raises ``Error`` (``quantity-wrong``)."""
    line, equals, quantity = text.rpartition("=")
    if not equals or not line or not quantity.isascii() or not quantity.isdigit() or int(quantity[:20]) > QUANTITY_MAX:
        raise Error(
            "quantity-wrong",
            expected=_("LINE=QUANTITY with a quantity up to {quantity_max}", quantity_max=QUANTITY_MAX),
            seen=repr(text[:80]),
        )
    return line.strip(), int(quantity)


def choose_line(
    text: str, lines: Mapping[LineId, KnownLine], field_servers: Iterable[FieldServerRecord] = ()
) -> ChosenLine:
    """A line by its id, its activation ID, or the SKU of its product where only one line has it.

    ``field_servers``: lines that they hold may be named, too, for a return without the entitlement.
    """
    if symbols_of(text).startswith("AT") and len(text) > DEVICE_PREFIX_MIN * 3:
        activation_id = parse_activation_id(text)
        return ChosenLine(
            line_id=activation_id.line_id, activation_id=str(activation_id), known=lines.get(activation_id.line_id)
        )
    held = {
        license_.line: license_.product
        for record in field_servers
        if record.report is not None
        for license_ in record.report.licenses
    }
    try:
        line_id = parse_line_id(text)
    except IdError:
        line_id = None
    if line_id is not None and (line_id in lines or line_id in held):
        return _chosen(line_id, lines)
    by_product = {line.line_id for line in lines.values() if folded(line.terms.product) == folded(text)}
    by_product |= {line for line, product in held.items() if folded(product) == folded(text)}
    if len(by_product) == 1:
        return _chosen(by_product.pop(), lines)
    if by_product:
        ends = {line: lines[line].terms.expires if line in lines else None for line in sorted(by_product)}
        said = [f"{line} ({moment_text(end) if end is not None else 'for ever'})" for line, end in ends.items()]
        raise PortError(
            "ambiguous",
            expected=_("one line with product {text}", text=text),
            seen=f"{len(by_product)}: {', '.join(said)}",
            next_step=_("Name the line in place of the product: {lines}.", lines=", ".join(ends)),
        )
    raise Error(
        "not-found",
        expected=_("a line of a known entitlement, by its id, its activation ID or its product"),
        seen=repr(text[:80]),
    )


def check_assignments(
    chosen: ChosenLine,
    quantity: int,
    field_servers: Sequence[FieldServerRecord],
    *,
    plan: Sequence[Assignment],
    names: Mapping[DeviceId, str],
    held: Mapping[DeviceId, Mapping[LineId, int]],
) -> list[Assignment]:
    """``quantity`` of a line planned on each field server, if its product applies there and enough was bought."""
    if chosen.activation_id is None:
        raise Error(
            "not-found",
            expected=_("the activation ID of line {line_id}", line_id=chosen.line_id),
            seen=_("a line whose entitlement is not known here; add it: {add}", add=ADD_ENTITLEMENT),
        )
    if chosen.known is not None and quantity:
        terms = chosen.known.terms
        kinds = ", ".join(sorted(terms.kinds))
        for record in field_servers:
            if not is_among(record.kind, terms.kinds):
                raise Error(
                    "kind-mismatch",
                    expected=_("a field server of kind {kinds} for {product}", kinds=kinds, product=terms.product),
                    seen=_("{record}, of kind {kind}", record=record.name, kind=record.kind),
                )
        here = {device_id: lines.get(chosen.line_id, 0) for device_id, lines in held.items()}
        _check_enough(chosen.known, quantity, field_servers, plan=plan, names=names, held=here)
    return [
        Assignment(
            device_id=record.device_id, line_id=chosen.line_id, activation_id=chosen.activation_id, quantity=quantity
        )
        for record in field_servers
    ]


def _check_enough(
    line: KnownLine,
    quantity: int,
    field_servers: Sequence[FieldServerRecord],
    *,
    plan: Sequence[Assignment],
    names: Mapping[DeviceId, str],
    held: Mapping[DeviceId, int],
) -> None:
    chosen = {record.device_id for record in field_servers}
    others = {
        one.device_id: one.quantity
        for one in plan
        if one.line_id == line.line_id and one.device_id not in chosen and one.quantity
    }
    total = quantity * len(field_servers) + sum(others.values())
    wanted = {**others, **dict.fromkeys(chosen, quantity)}
    if total > line.terms.quantity and not _is_available(line, wanted, held):
        elsewhere = ", ".join(f"{names.get(device, device[:12])}={count}" for device, count in others.items())
        planned = (
            _("{total} planned, of which elsewhere: {elsewhere}", total=total, elsewhere=elsewhere)
            if elsewhere
            else _("{total} planned", total=total)
        )
        raise PortError(
            "not-enough",
            expected=_(
                "at most the {quantity} of {product} that line {line_id} has",
                quantity=line.terms.quantity,
                product=line.terms.product,
                line_id=line.line_id,
            ),
            seen=_("{planned}; {available}", planned=planned, available=available_text(line)),
            next_step=_(
                "Remove some from the plan elsewhere ({give_back}), ask for fewer, or buy more. If some were given back "
                "without this computer, have it ask what is available now: {add}.",
                give_back=GIVE_BACK,
                add=ADD_ENTITLEMENT,
            ),
        )


def _is_available(line: KnownLine, wanted: Mapping[DeviceId, int], held: Mapping[DeviceId, int]) -> bool:
    """Whether there is enough for all that is not held yet by what the activation server said, less what was taken since."""
    if line.available is None:
        return False
    growth = sum(max(0, count - held.get(device_id, 0)) for device_id, count in wanted.items())
    taken = sum(max(0, count - line.held_then.get(device_id, 0)) for device_id, count in held.items())
    return growth <= line.available - taken


def available_text(line: KnownLine) -> str:
    """What the activation server said that is available of a line, and since when that is known."""
    if line.available is None or line.available_at is None:
        return _("what is available at the activation server is not known here")
    return _(
        "the activation server said {count} available at {at}",
        count=line.available,
        at=moment_text(line.available_at),
    )


def _chosen(line_id: LineId, lines: Mapping[LineId, KnownLine]) -> ChosenLine:
    known = lines.get(line_id)
    return ChosenLine(line_id=line_id, activation_id=None if known is None else known.terms.activation_id, known=known)


def _plain_address(text: str) -> str:
    return text.removeprefix("https://").rstrip("/").casefold()
