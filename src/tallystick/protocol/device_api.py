"""The field server's local HTTP API, once for both sides and for its OpenAPI document (``make docs`` writes that).

Guarantees: what a field server answers is written in full, null too, with no other name, but for what came with a later
release, which is left out where there is nothing to say. Whoever reads an answer passes
over what it does not know and takes a default for what an older field server does not say, so patterns and lists of
values are told (``extra_json_schema``) and not enforced. What is asked of a field server is exact, and what it takes is
enforced. Moments are Unix seconds, UTC. It leaves the transport, the password and what a request means to both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from tallystick.domain.ids import DeviceId, Digest, LineId
from tallystick.protocol import tallyfile
from tallystick.protocol.messages import LICENSES_MAX, QUANTITY_MAX, Purpose
from tallystick.structs import know

VERSION: Final = 1  # of this API and of the messages; an answer that says nothing of it is of version 1
INBOX_BYTES_MAX: Final = 16 * 1024 * 1024
INBOX_LINES_MAX: Final = 20_000
FEATURE_SYMBOLS_MAX: Final = 32
JSON: Final = "application/json"


def _told(**schema: Any) -> Meta:
    return Meta(extra_json_schema=schema)


_HASH: Final = _told(pattern="^[A-Za-z0-9_-]{43}$")
_COUNT: Final = _told(minimum=0)
_NUMBER: Final = _told(minimum=1)
_MOMENT: Final = Meta(description="Unix seconds, UTC.")


# How it comes to the root that it pins: named when it was set up, or by whoever delivered first, which was asked for. Left
# out where it was set up by a release that did not record it.
Trust = Annotated[str, _told(enum=["named", "first-delivery"])] | UnsetType


class Answer(Struct, frozen=True, kw_only=True):
    """What a field server says of itself."""


class ProblemDocument(Answer, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: Annotated[str, _told(pattern="^urn:tallystick:problem:")]
    title: str
    status: Annotated[int, _told(minimum=400, maximum=599)]
    code: Annotated[str, _told(pattern="^[a-z][a-z-]*$")]
    expected: str
    seen: str
    next_step: Annotated[str, _told(minLength=1)]
    detail: str


class OwnRoute(Answer, frozen=True, kw_only=True):
    """Whether the field server itself reaches the activation server, and when it looked."""

    url: str
    reachable: bool
    why: str = ""
    checked_at: Annotated[int, _MOMENT] | None = None


class Identity(Answer, frozen=True, kw_only=True):
    """Who a field server is. ``activation`` null: it was not told of any route of its own.

    ``named_root``: the fingerprint of the root that was named when it was set up.
    """

    device_id: Annotated[DeviceId, _HASH]
    kind: str
    host_id: str
    name: str
    software: str
    certificate_fingerprint: Annotated[str, _told(pattern="^SHA256:")]
    root_fingerprint: Annotated[str, _HASH] | None = None
    issuer: str | None = None
    keyset_version: Annotated[int, _NUMBER] | None = None
    protocol: Annotated[int, _told(const=VERSION)] = VERSION
    activation: OwnRoute | None = None
    trust: Trust = UNSET
    named_root: Annotated[str, _HASH] | UnsetType = UNSET


class AppliedNote(Answer, frozen=True, kw_only=True):
    """The grant in force."""

    number: Annotated[int, _NUMBER]
    digest: Annotated[Digest, _HASH]


class HeldLicense(Answer, frozen=True, kw_only=True):
    """A license on a field server. ``features`` are counts per unit."""

    license: str
    line: Annotated[LineId, _told(pattern="^[0-9A-HJKMNP-TV-Z]{8}$", description="The eight symbols of a line id.")]
    product: str
    quantity: Annotated[int, _NUMBER]
    features: dict[str, Annotated[int, _NUMBER]] = {}
    expires: Annotated[int, _MOMENT] | None = None
    engineering: bool = False
    one_carry: bool = False
    expired: bool = False


class FeatureNote(Answer, frozen=True, kw_only=True):
    """Required, used, available and activated of one feature."""

    feature: str
    required: Annotated[int, _COUNT]
    used: Annotated[int, _COUNT]
    available: int
    activated: Annotated[int, _COUNT]
    violation: bool
    standing: str
    why: str = ""


class CheckResult(FeatureNote, frozen=True, kw_only=True):
    """May a feature run, and why not."""

    licensed: bool
    expires: Annotated[int, _MOMENT] | None
    engineering: bool


class WaitingNote(Answer, frozen=True, kw_only=True):
    """A message in the field server's outbox."""

    sequence: Annotated[int, _NUMBER]
    purpose: Annotated[str, _told(enum=list(get_args(Purpose)))]
    digest: Annotated[Digest, _HASH]
    written_at: Annotated[int, _MOMENT]


class ReasonNote(Answer, frozen=True, kw_only=True):
    """Why one line, or the whole message, was refused."""

    line: LineId | None = None
    code: str
    expected: str = ""
    seen: str = ""


class OutcomeNote(Answer, frozen=True, kw_only=True):
    """What became of one of the field server's last messages: granted, refused, credited or overtaken."""

    sequence: Annotated[int, _NUMBER]
    digest: Annotated[Digest, _HASH]
    purpose: str
    outcome: str
    code: str | None = None
    detail: str = ""
    reasons: tuple[ReasonNote, ...] = ()
    at: Annotated[int, _MOMENT] | None = None


class LicenseReport(Answer, frozen=True, kw_only=True):
    """All that a field server says about its licenses.

    ``time_seen``: the highest time seen; expiry is judged at it, at least. ``rolled_back_at``: when it was found that
    this field server had been rolled back. ``final``: it was taken out of service for good and takes no license any more; left out otherwise.
    """

    device_id: Annotated[DeviceId, _HASH]
    name: str
    kind: str
    epoch: Annotated[int, _NUMBER]
    applied: AppliedNote | None = None
    licenses: tuple[HeldLicense, ...] = ()
    features: tuple[FeatureNote, ...] = ()
    outbox: tuple[WaitingNote, ...] = ()
    outcomes: tuple[OutcomeNote, ...] = ()
    time_seen: int = 0
    rolled_back_at: int | None = None
    final: Literal[True] | UnsetType = UNSET
    trust: Trust = UNSET

    @property
    def held(self) -> dict[LineId, int]:
        """Quantity per line."""
        return {license_.line: license_.quantity for license_ in self.licenses}


class WrittenRequest(Answer, frozen=True, kw_only=True):
    """The message that a field server wrote for a wish, its envelope verbatim. ``repeated``: it was waiting already."""

    sequence: Annotated[int, _NUMBER]
    digest: Annotated[Digest, _HASH]
    purpose: str
    message: str
    repeated: bool = False


class LineResult(Answer, frozen=True, kw_only=True):
    """What one delivered line did."""

    line_number: Annotated[int, _NUMBER]
    digest: Annotated[Digest, _HASH] | None = None
    kind: str = ""
    outcome: Annotated[str, _told(enum=["applied", "already", "noted", "stale", "refused", "error"])]
    code: str | None = None
    detail: str = ""
    next_step: str | None = None


class InboxResult(Answer, frozen=True, kw_only=True):
    """The answer of an inbox. ``waiting``: how many messages are in the outbox afterwards."""

    results: tuple[LineResult, ...]
    waiting: Annotated[int, _COUNT] = 0


# What can be asked for: end states. Lines that are not named stay as they are.

Quantity = Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]
_Words = Annotated[str, Meta(max_length=200)]


class _Exact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing unknown, nothing converted."""


class ActivateWant(_Exact, frozen=True, kw_only=True):
    """Hold so many of the line that an activation ID, as printed, names."""

    activation_id: _Words
    quantity: Quantity


class ReturnWant(_Exact, frozen=True, kw_only=True):
    """Hold only so many of a line any more."""

    line: _Words
    quantity: Quantity


class ActivateWish(_Exact, frozen=True, kw_only=True, tag_field="purpose", tag="activate"):
    """Hold these end states."""

    wants: Annotated[tuple[ActivateWant, ...], Meta(min_length=1, max_length=LICENSES_MAX)]


class ReturnWish(_Exact, frozen=True, kw_only=True, tag_field="purpose", tag="return"):
    """Give back down to these end states, or everything: one of the two is said."""

    wants: Annotated[tuple[ReturnWant, ...], Meta(min_length=1, max_length=LICENSES_MAX)] | UnsetType = UNSET
    all: Literal[True] | UnsetType = UNSET


class RefreshWish(_Exact, frozen=True, kw_only=True, tag_field="purpose", tag="refresh"):
    """Ask what should be held now."""


class RelinquishWish(_Exact, frozen=True, kw_only=True, tag_field="purpose", tag="relinquish", omit_defaults=True):
    """Give everything up first, and say so. ``final``: this device is scrapped; it takes no license any more."""

    final: bool = False


Wish = ActivateWish | ReturnWish | RefreshWish | RelinquishWish

# The routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. ``takes`` and ``answers``: a kind of struct, or a media type where it is no JSON."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    answers: Any
    description: str
    takes: Any = None
    takes_description: str = ""
    parameters: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    needs_password: bool = True

    @property
    def body_type(self) -> str:
        """The media type of what it takes."""
        return self.takes if isinstance(self.takes, str) else JSON


DOCUMENT: Final = Operation(
    name="getDocument",
    method="GET",
    path="/v1/openapi.json",
    summary="This document",
    answers=dict[str, Any],
    description="OpenAPI 3.1.",
    needs_password=False,
)
IDENTITY: Final = Operation(
    name="getIdentity",
    method="GET",
    path="/v1/identity",
    summary="Who this is",
    answers=Identity,
    description="What Device Administrator needs before it has a password.",
    needs_password=False,
)
LICENSES: Final = Operation(
    name="getLicenses",
    method="GET",
    path="/v1/licenses",
    summary="What is held, and what is under way",
    answers=LicenseReport,
    description="Licenses, features, the outbox, what became of the last messages.",
)
REQUESTS: Final = Operation(
    name="postRequest",
    method="POST",
    path="/v1/requests",
    summary="Write the message that asks for something, or find it waiting",
    takes=Wish,
    takes_description="End states: lines that are not named stay as they are.",
    answers=WrittenRequest,
    description="The message, which is durable and waits in the outbox.",
)
OUTBOX: Final = Operation(
    name="getOutbox",
    method="GET",
    path="/v1/outbox",
    summary="The messages that wait, to be carried to the activation server",
    answers=tallyfile.MEDIA_TYPE,
    description="A tally file; the same bytes every time.",
)
INBOX: Final = Operation(
    name="postInbox",
    method="POST",
    path="/v1/inbox",
    summary="Take a tally file from the activation server",
    takes=tallyfile.MEDIA_TYPE,
    takes_description=f"A tally file of at most {INBOX_BYTES_MAX >> 20} MiB and {INBOX_LINES_MAX:,} lines.",
    answers=InboxResult,
    description="What every line did. Lines that cannot be used disturb no other.",
)
CHECK: Final = Operation(
    name="getCheck",
    method="GET",
    path="/v1/checks/{feature}",
    summary="May this feature run?",
    answers=CheckResult,
    description="The answer, and why.",
    parameters=(
        {
            "name": "feature",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": FEATURE_SYMBOLS_MAX},
        },
        {
            "name": "used",
            "in": "query",
            "required": False,
            "description": "How many units the software needs.",
            "schema": {"type": "integer", "minimum": 0, "maximum": QUANTITY_MAX, "default": 1},
        },
    ),
)
OPERATIONS: Final = (DOCUMENT, IDENTITY, LICENSES, REQUESTS, OUTBOX, INBOX, CHECK)

know(ProblemDocument, OwnRoute, Identity, AppliedNote, HeldLicense, FeatureNote, CheckResult, WaitingNote, ReasonNote)
know(OutcomeNote, LicenseReport, WrittenRequest, LineResult, InboxResult, ActivateWant, ReturnWant, ActivateWish)
know(ReturnWish, RefreshWish, RelinquishWish, Answer, _Exact)
