"""A message as it comes in: what is checked of it before any transaction (protocol, section 7, step 2)."""

from __future__ import annotations

from msgspec import Struct

from tallystick.activation.core.ports import Answer, MessageOutcome
from tallystick.domain.ids import DeviceId, Digest
from tallystick.protocol import envelope, messages
from tallystick.protocol.envelope import Unverified, Verified
from tallystick.protocol.keys import Keyset
from tallystick.protocol.messages import Grant, Request
from tallystick.protocol.problems import WireError, detail_text
from tallystick.sentences import _
from tallystick.structs import know


class Message(Struct, frozen=True, kw_only=True):
    """A field server's message whose signature, issuer and claims were checked.

    ``digest`` is that of its envelope; ``repeated`` the grant that it repeats verbatim, where it does and we signed it
    (section 9).
    """

    device_id: DeviceId
    digest: Digest
    request: Request
    verified: Verified
    repeated: Grant | None = None


def read_message(line: Unverified, keyset: Keyset) -> Message:
    """Check one envelope before any transaction. Raises ``WireError``: the answer is unsigned and nothing is stored."""
    if line.typ != messages.REQUEST:
        raise WireError("kind-unexpected", expected=_("a message of a field server"), seen=line.typ[:40])
    if line.jwk is None:
        raise WireError("header-refused", expected=_("the field server's key as jwk"), seen=_("none"))
    verified = envelope.verify(line, line.jwk)
    request = messages.parse_request(verified)
    if request.aud != keyset.issuer:
        raise WireError(
            "issuer-wrong",
            expected=_("a message for {issuer}", issuer=keyset.issuer),
            seen=_("one for {aud}", aud=request.aud[:60]),
        )
    repeated = None
    if request.grant is not None:
        repeated = _read_repeated(request, keyset)
    return Message(
        device_id=request.device_id, digest=verified.digest, request=request, verified=verified, repeated=repeated
    )


def _read_repeated(request: Request, keyset: Keyset) -> Grant | None:
    """The grant that a message repeats. None where its key is no longer in the keyset: it proves nothing any more."""
    try:
        opened = keyset.verify(envelope.open_envelope((request.grant or "").encode("utf-8", "replace")))
    except WireError as error:
        if error.code == "key-unknown":
            return None
        raise
    repeated = messages.parse_grant(opened)
    applied = request.applied
    if (
        applied is None
        or (applied.number, applied.digest) != (repeated.number, opened.digest)
        or repeated.sub != request.iss
        or repeated.epoch != request.epoch
    ):
        raise WireError("claims-malformed", expected=_("the applied grant, repeated"), seen=_("another grant"))
    return repeated


def error_answer(error: WireError) -> Answer:
    """The unsigned answer to bytes that are no message (step 2)."""
    detail = detail_text(error.code, expected=error.expected, seen=error.seen)
    return Answer(digest=None, outcome=MessageOutcome.ERROR, code=error.code, detail=detail)


know(Message)
