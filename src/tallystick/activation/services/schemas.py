"""What people and programs are shown: one document per noun, for the API and for the pages alike.

Moments are Unix seconds, UTC. The patterns here are the whole truth about what a text may be: a request that fits
them is never refused for its form.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WrapValidator

from tallystick.activation.core.permissions import Role
from tallystick.activation.core.ports import EventKind, IncidentKind, IncidentState, Resolution, Status
from tallystick.activation.storage.events import DeliveryState
from tallystick.domain.ledger import Account
from tallystick.domain.text import normal
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.sentences import Sentence

# What can be seen, of the scripts that people write names in: no controls, no invisible marks, no private symbols.
_SEEN: Final = (
    "!-~\u00a1-\u00ac\u00ae-\u0377\u0386\u0388-\u038a\u038e-\u03a1\u03a3-\u052f\u05d0-\u05ea\u0620-\u064a\u0671-\u06d3\u0904-\u0939\u093e-\u094d"
    "\u0e01-\u0e30\u1e00-\u1eff\u2010-\u2015\u2018-\u201f\u3005-\u3007\u3041-\u3096\u30a1-\u30fe\u3400-\u4db5\u4e00-\u9fa5\uac00-\ud7a3"
)
TEXT_PATTERN: Final = f"^[{_SEEN}][ \u200c\u200d{_SEEN}]{{0,127}}$"
ACCOUNT_PATTERN: Final = TEXT_PATTERN
LINE_PATTERN: Final = "^[0-9A-HJKMNP-TV-Z]{8}$"
DEVICE_PATTERN: Final = "^[A-Za-z0-9_-]{43}$"
ENTITLEMENT_PATTERN: Final = "^EN-[0-9A-HJKMNP-TV-Z]{26}[0-9A-Z*~$=]$"
REFERENCE_PATTERN: Final = "^ER-[0-9A-HJKMNP-TV-Z]{16}$"
SKU_PATTERN: Final = "^[A-Za-z0-9._-]{1,40}$"
MOMENT_MAX: Final = 253_402_300_799  # the last second of the year 9999

NORMAL: Final = BeforeValidator(lambda value: normal(value) if isinstance(value, str) else value)
Text = Annotated[str, Field(pattern=TEXT_PATTERN, max_length=128, examples=["Harbour works"]), NORMAL]
AccountName = Annotated[str, Field(pattern=ACCOUNT_PATTERN, max_length=128, examples=["Harbour"]), NORMAL]
LineText = Annotated[str, Field(pattern=LINE_PATTERN, examples=["7K3M9Q2A"])]
DeviceText = Annotated[str, Field(pattern=DEVICE_PATTERN)]
Sku = Annotated[str, Field(pattern=SKU_PATTERN, examples=["smartdriver"])]


def _whole(value: object) -> object:
    """JSON Schema takes 5.0 for a whole number, and so do we; a text, or true, is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError("not a whole number")
    return int(value)


WHOLE: Final = BeforeValidator(_whole)
Quantity = Annotated[int, Field(ge=0, le=QUANTITY_MAX), WHOLE]
Moment = Annotated[int, Field(ge=0, le=MOMENT_MAX), WHOLE]
ONLY_THESE: Final[dict[str, Any]] = {"additionalProperties": False}  # beside the patterns of the names


class Document(BaseModel):
    """Frozen; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def without_secrets(self) -> Document:
        """What may be kept of it."""
        return self


def _leave_out_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


class ChangedDocument(Document):
    """What is changed of something; what is left out stays as it is.

    No schema of one has a default: generators of clients would send it for what a program left out. Null is taken only
    where there is something to clear. What stands for a value that was left out is never looked at.
    """

    model_config = ConfigDict(json_schema_extra=_leave_out_defaults)

    def named(self) -> dict[str, Any]:
        """What was sent, by name."""
        return {name: getattr(self, name) for name in self.model_fields_set}


# A text that a page words anew for its reader; a program gets its English.
SaidText = Annotated[str, WrapValidator(lambda text, check: text if isinstance(text, Sentence) else check(text))]


class AccountDocument(Document):
    """Somebody who buys."""

    account: str
    created_at: int


class PersonDocument(Document):
    """Somebody who signs in. ``is_invited``: the invitation was not used yet."""

    person_id: str
    email: str
    name: str
    role: Role
    account: str | None
    is_active: bool
    is_invited: bool
    has_second_factor: bool
    created_at: int
    version: str


class InvitedPerson(PersonDocument):
    """A new person, with the invitation to hand over. It is shown once, and null when the creation is repeated."""

    invitation: str | None
    invited_until: int | None

    def without_secrets(self) -> InvitedPerson:
        """Without the invitation."""
        return self.model_copy(update={"invitation": None})


class TokenDocument(Document):
    """A key for programs, without the key."""

    token_id: str
    name: str
    role: Role
    account: str | None
    is_read_only: bool
    devices: list[str]
    created_by: str
    created_at: int
    expires_at: int
    last_used_at: int | None
    revoked_at: int | None


class NewToken(TokenDocument):
    """A new token, with the key. It is shown once, and null when the creation is repeated."""

    token: str | None

    def without_secrets(self) -> NewToken:
        """Without the key."""
        return self.model_copy(update={"token": None})


class WebhookDocument(Document):
    """Somebody's program that is notified of what happens. ``account`` null: of every account; ``kinds`` empty: every kind.

    ``owner`` null: the vendor's, else the account whose people made it. ``position``: events up to it are on their way
    or delivered. Until ``secret_before_until`` the secret before the last rotation signs as well.
    """

    webhook_id: str
    url: str
    account: str | None
    owner: str | None
    kinds: list[EventKind]
    is_enabled: bool
    stopped_at: int | None
    stopped_why: str | None
    position: int
    created_at: int
    created_by: str
    secret_before_until: int | None
    version: str


class NewWebhook(WebhookDocument):
    """With its secret, which is shown once, and null when the request is repeated."""

    secret: str | None

    def without_secrets(self) -> NewWebhook:
        """Without the secret."""
        return self.model_copy(update={"secret": None})


class DeliveryDocument(Document):
    """One event on its way to a webhook. ``status``: what the other side answered, null where it did not.

    ``next_at``: when it is tried next, null where it is not tried any more.
    """

    webhook_id: str
    position: int
    event_id: str
    kind: EventKind
    account: str | None
    state: DeliveryState
    attempts: int
    first_at: int
    next_at: int | None
    last_at: int | None
    status: int | None
    detail: str


class ProductDocument(Document):
    """Something to buy."""

    sku: Sku
    name: Annotated[str, Field(pattern=TEXT_PATTERN, max_length=128)]
    kinds: Annotated[
        list[Annotated[str, Field(pattern=TEXT_PATTERN, max_length=40)]], Field(min_length=1, max_length=16)
    ]
    features: dict[
        Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,32}$")],
        Annotated[int, Field(ge=1, le=QUANTITY_MAX), WHOLE],
    ] = Field(min_length=1, max_length=8, json_schema_extra=ONLY_THESE)
    returnable: bool = True
    one_carry: bool = True
    engineering: bool = False


class CatalogDocument(Document):
    """Kinds of field servers and products."""

    kinds: list[str]
    products: list[ProductDocument]
    version: str


class LineDocument(Document):
    """A product in an entitlement, its terms, and where its rights are. ``version`` covers quantity and terms.

    ``entitlement`` is the reference. What activates is in ``RevealedLine`` only.
    """

    line: str
    entitlement: str
    account: str
    product: str
    name: str
    kinds: list[str]
    quantity: int
    bought: int
    available: int
    held: int
    returning: int
    quarantined: int
    retired: int
    expires_at: int | None
    engineering: bool
    suspended: bool
    frozen: bool
    version: str


class EntitlementDocument(Document):
    """What one account bought at one time. ``entitlement`` is its reference, which opens nothing."""

    entitlement: str
    account: str
    created_at: int
    lines: list[LineDocument]


class RevealedLine(LineDocument):
    """A line with its activation ID: shown when it is made, revealed or replaced, and null when that is repeated."""

    activation_id: str | None

    def without_secrets(self) -> RevealedLine:
        """Without the activation ID."""
        return self.model_copy(update={"activation_id": None})


class RevealedEntitlement(Document):
    """An entitlement with its entitlement ID and activation IDs, in the same way."""

    entitlement: str
    account: str
    created_at: int
    entitlement_id: str | None
    lines: list[RevealedLine]

    def without_secrets(self) -> RevealedEntitlement:
        """Without the IDs."""
        lines = [line.without_secrets() for line in self.lines]
        return self.model_copy(update={"entitlement_id": None, "lines": lines})


class HoldingDocument(Document):
    """What one line keeps for one field server."""

    device_id: str
    device_name: str
    line: str
    product: str
    held: int
    returning: int
    quarantined: int
    since_at: int


class FieldServerDocument(Document):
    """A field server, and what it should hold."""

    device_id: str
    name: str
    kind: str
    host_id: str
    software: str
    account: str | None
    status: Status
    first_seen_at: int
    last_seen_at: int | None
    lost_at: int | None
    lost_until: int | None
    licenses: list[HoldingDocument]


class EventDocument(Document):
    """Something in the history of a field server."""

    at: int
    kind: str
    title: SaidText
    detail: SaidText
    next_step: SaidText
    digest: str | None
    is_alarming: bool


class StartedDocument(Document):
    """A return or a change that was started here: carry ``file`` to the field server, and its proof back."""

    device_id: str
    name: str
    file: str
    next_step: str


class ReturnDocument(Document):
    """Rights that are returning: since when, where it stands, what to carry where."""

    device_id: str
    device_name: str
    account: str | None
    line: str
    product: str
    quantity: int
    since_at: int
    age_seconds: int
    stands: str
    next_step: str


class IncidentDocument(Document):
    """Something that was noticed, what a person can do, who looks at it, and what ended it.

    ``resolution``: ``release`` of a hold, a ``fence`` that was proven, the ``clock`` that was confirmed, or a ``person``.
    """

    number: int
    kind: IncidentKind
    state: IncidentState
    device_id: str
    device_name: str | None
    account: str | None
    at: int
    detail: str
    digest: str | None
    next_step: str
    acknowledged_at: int | None
    acknowledged_by: str | None
    acknowledged_note: str
    resolved_at: int | None
    resolved_by: str | None
    resolved_note: str
    resolution: Resolution | None


class EntryDocument(Document):
    """Rights that moved, and why."""

    line: str
    number: int
    source: Account
    target: Account
    quantity: int
    device_id: str | None
    cause: str
    booked_at: int
    chain: str


class RecordDocument(Document):
    """One entry of the audit trail."""

    number: int
    at: int
    actor: str
    role: str
    account: str | None
    action: str
    target: str
    detail: str


class DeliveredDocument(Document):
    """What became of one message."""

    file: str
    line_number: int
    digest: str | None
    device_id: str | None
    device_name: str | None
    purpose: str | None
    wanted: str
    outcome: str
    code: str | None
    detail: str
    next_step: str


class ReplyDocument(Document):
    """The stored answer to one message."""

    digest: str
    outcome: str
    code: str | None
    detail: str
    reply: str


ItemT = TypeVar("ItemT")


class Page(Document, Generic[ItemT]):
    """A page of a list. ``next`` is the cursor of the next one, null on the last."""

    items: list[ItemT]
    next: str | None
