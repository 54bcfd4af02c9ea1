"""What was bought: an entitlement is a container of lines, a line is a product with a quantity."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from tallystick.domain.catalog import Product
from tallystick.domain.ids import ActivationId, EntitlementId, LineId
from tallystick.domain.ledger import Balances
from tallystick.structs import know


class Line(Struct, frozen=True, kw_only=True):
    """A product in an entitlement, with its terms and where its rights are.

    ``expires_at`` is in Unix seconds, None for never. ``engineering`` marks time-limited licenses for commissioning;
    ``suspended`` and ``frozen`` (after a restore) both stop growth and nothing else.
    """

    line_id: LineId
    entitlement_id: EntitlementId
    account: str
    product: Product
    secret: bytes
    expires_at: int | None = None
    engineering: bool = False
    suspended: bool = False
    frozen: bool = False
    balances: Balances = field(default_factory=Balances)

    @property
    def activation_id(self) -> ActivationId:
        """The activation ID as it was printed for the buyer."""
        return ActivationId(line_id=self.line_id, secret=self.secret)

    def __repr__(self) -> str:
        """Without the secret, so that no log shows it."""
        return f"Line({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for rich."""
        return [(name, value) for name, value in super().__rich_repr__() if name != "secret"]


class Entitlement(Struct, frozen=True, kw_only=True):
    """What one account bought at one time."""

    entitlement_id: EntitlementId
    account: str
    created_at: int
    lines: tuple[Line, ...]


know(Line, Entitlement)
