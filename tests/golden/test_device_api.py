"""Both sides of a field server's API go on understanding what the first release wrote, and go on writing it.

The files of ``device_api`` are what the first release's field server answered, and what its Device Administrator
asked, byte by byte. They are never edited, only added.
"""

import json
from pathlib import Path

import msgspec
import pytest

from tallystick.domain.ids import ActivationId, LineId, parse_activation_id
from tallystick.domain.verdict import License, decide_verdict
from tallystick.fieldserver import views
from tallystick.fieldserver.agent import DeliveryResult, LineResult
from tallystick.fieldserver.state import (
    Activate,
    Applied,
    Device,
    Fate,
    LineEffect,
    MessageFate,
    Received,
    Refresh,
    Relinquish,
    Return,
    State,
    Waiting,
    Written,
)
from tallystick.protocol import device_api
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.messages import Facts, LineReason

FILES = Path(__file__).with_name("device_api")
NOW = 1_900_000_000
LINE, OTHER = LineId("7K3M9Q2A"), LineId("7K3M9Q2B")
DIGEST = "D" * 43
DEVICE = Device(
    key=PrivateKey(b"d" * 32), facts=Facts(kind="AS-P", host_id="host-1", name="Roof \u00e9\u0645", software="1.0")
)


def license_of(line, **changes):
    fields = {
        "license_id": f"LC-{line}",
        "line_id": line,
        "product": "mqtt",
        "quantity": 2,
        "features": (("mqtt", 3), ("snmp", 1)),
        "expires_at": None,
        "engineering": False,
        "one_carry": True,
    }
    return License(**{**fields, **changes})


LICENSES = (license_of(LINE), license_of(OTHER, expires_at=NOW - 1, engineering=True, features=(("old", 1),)))
WAITING = Waiting(compact="a.b.c", digest=DIGEST, sequence=4, purpose="activate", written_at=NOW - 5)
FATES = (
    MessageFate(
        sequence=2,
        digest=DIGEST,
        purpose="activate",
        fate=Fate.REFUSED,
        code="quantity-not-available",
        detail="No.",
        reasons=(LineReason(code="quantity-not-available", expected="2", seen="1", line=LINE),),
        noted_at=NOW - 9,
    ),
    MessageFate(
        sequence=3, digest=DIGEST, purpose="return", fate=Fate.CREDITED, code=None, detail="", reasons=(), noted_at=NOW
    ),
)
STATE = State(
    device_id=DEVICE.device_id,
    epoch=2,
    sequence=4,
    applied=Applied(compact="x.y.z", digest=DIGEST, number=7, keyset=None, licenses=LICENSES),
    outbox=(WAITING,),
    outcomes=FATES,
    time_seen=NOW - 1,
    rolled_back_at=NOW - 100,
)
LINES = (
    LineResult(
        line_number=1,
        received=Received(kind="tally-grant+jwt", digest=DIGEST, effect=LineEffect.APPLIED, code=None, detail="Good."),
    ),
    LineResult(
        line_number=2,
        received=Received(kind="", digest=None, effect=LineEffect.ERROR, code="not-text", detail="Binary."),
    ),
)
ROUTE = {"url": "https://a.example", "reachable": False, "why": "no route", "checked_at": NOW}


def answers(route=ROUTE):
    """What a field server answers, with the kind that Device Administrator reads it as."""
    verdicts = {
        feature: decide_verdict(feature, required=9, licenses=LICENSES, time_seen=NOW) for feature in ("mqtt", "old")
    }
    empty = State(device_id=DEVICE.device_id)
    return {
        "identity": views.show_identity(DEVICE, STATE, fingerprint="SHA256:abc", activation=route),
        "identity-alone": views.show_identity(DEVICE, STATE, fingerprint="SHA256:abc", activation=None),
        "licenses": views.show_licenses(DEVICE, STATE, required={"mqtt": 7, "none": 1}, now=NOW),
        "licenses-none": views.show_licenses(DEVICE, empty, required={}, now=NOW),
        "check-too-few": views.show_verdict(verdicts["mqtt"]),
        "check-expired": views.show_verdict(verdicts["old"]),
        "written": views.show_written(Written(message=WAITING, is_repeated=True)),
        "inbox": views.show_delivery(DeliveryResult(lines=LINES, waiting=1)),
    }


KINDS = {
    "identity": device_api.Identity,
    "licenses": device_api.LicenseReport,
    "check": device_api.CheckResult,
    "written": device_api.WrittenRequest,
    "inbox": device_api.InboxResult,
}
ACTIVATION_ID = str(ActivationId(line_id=LINE, secret=b"s" * 16))
WISHES = {
    "wish-activate": (
        device_api.ActivateWish(wants=(device_api.ActivateWant(activation_id=ACTIVATION_ID, quantity=2),)),
        lambda wish: wish.wants[0].activation_id == parse_activation_id(ACTIVATION_ID) and type(wish) is Activate,
    ),
    "wish-return": (
        device_api.ReturnWish(wants=(device_api.ReturnWant(line=LINE, quantity=0),)),
        lambda wish: (wish.wants[0].line_id, wish.wants[0].quantity) == (LINE, 0) and type(wish) is Return,
    ),
    "wish-return-all": (device_api.ReturnWish(all=True), lambda wish: wish == Return(wants=None)),
    "wish-refresh": (device_api.RefreshWish(), lambda wish: wish == Refresh()),
    "wish-relinquish": (device_api.RelinquishWish(), lambda wish: wish == Relinquish()),
}


# The words of a reason, which people read, may say more than they did; names, kinds and numbers stay.
REWORDED = {
    b"every license of this feature has expired: extend it, then refresh": b"no license of this feature is in force; "
    b"expired: 2 of line 7K3M9Q2B (mqtt, 2030-03-17 17:46 UTC). Have the line extended, then refresh",
}


def golden(name):
    return (FILES / f"{name}.json").read_bytes().rstrip(b"\n")


def test_every_file_is_looked_at():
    assert {path.stem for path in FILES.glob("*.json")} == {*answers(None), *WISHES}


@pytest.mark.parametrize("name", answers(None))
def test_a_field_server_answers_byte_by_byte_what_the_first_release_did(name):
    route = device_api.OwnRoute(**ROUTE)
    wanted = golden(name)
    for before, now in REWORDED.items():
        wanted = wanted.replace(b'"why":"' + before + b'"', b'"why":"' + now + b'"')
    assert msgspec.json.encode(answers(route)[name]) == wanted


@pytest.mark.parametrize("name", answers(None))
def test_device_administrator_reads_what_the_first_releases_field_server_answers(name):
    kind = KINDS[name.partition("-")[0]]
    read = msgspec.json.decode(golden(name), type=kind)
    assert msgspec.json.encode(read) == golden(name)


@pytest.mark.parametrize("name", answers(None))
def test_what_a_newer_field_server_says_more_is_passed_over(name):
    kind = KINDS[name.partition("-")[0]]
    more = {**json.loads(golden(name)), "unheard_of": {"x": [1]}}
    assert msgspec.json.encode(msgspec.json.decode(json.dumps(more), type=kind)) == golden(name)


@pytest.mark.parametrize("name", WISHES)
def test_a_field_server_takes_what_the_first_releases_device_administrator_asks(name):
    _, is_meant = WISHES[name]
    assert is_meant(views.parse_wish(golden(name)))


@pytest.mark.parametrize("name", WISHES)
def test_device_administrator_asks_what_the_first_release_did(name):
    wish, _ = WISHES[name]
    assert json.loads(msgspec.json.encode(wish)) == json.loads(golden(name))
