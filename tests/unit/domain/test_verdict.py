"""May a feature run now, and why not."""

from __future__ import annotations

import pytest

from tallystick.domain.ids import LicenseId, LineId
from tallystick.domain.verdict import License, Standing, decide_verdict

NOW = 1_000


def held(quantity=1, *, count=1, expires_at=None, engineering=False, feature="mqtt") -> License:
    return License(
        license_id=LicenseId("LC-1"),
        line_id=LineId("7K3M9Q2A"),
        product="mqtt-client",
        quantity=quantity,
        features=((feature, count), ("other", 9)),
        expires_at=expires_at,
        engineering=engineering,
        one_carry=True,
    )


def verdict(*licenses: License, required=1, now=NOW):
    return decide_verdict("mqtt", required=required, licenses=licenses, time_seen=now)


def test_nothing_activated_is_not_licensed_and_a_violation():
    found = verdict()
    assert (found.standing, found.is_licensed, found.is_violation) == (Standing.NOT_LICENSED, False, True)
    assert (found.activated, found.used, found.available) == (0, 0, 0)


def test_quantity_times_count_of_all_licenses_is_activated():
    found = verdict(held(3, count=5), held(2), required=4)
    assert (found.activated, found.used, found.available, found.is_licensed) == (17, 4, 13, True)


def test_exactly_enough_is_enough_and_one_more_is_too_few():
    assert verdict(held(5), required=5).standing is Standing.LICENSED
    found = verdict(held(5), required=6)
    assert (found.standing, found.is_licensed, found.is_violation) == (Standing.TOO_FEW, False, True)
    assert (found.used, found.available) == (5, 0)
    assert "6" in found.why
    assert "5" in found.why


def test_other_features_do_not_count():
    assert verdict(held(feature="logs")).standing is Standing.NOT_LICENSED


def test_a_license_is_over_at_its_moment_and_not_before():
    ending = held(expires_at=NOW)
    assert verdict(ending, now=NOW - 1).standing is Standing.LICENSED
    assert verdict(ending, now=NOW).standing is Standing.EXPIRED
    assert verdict(ending, now=NOW + 1).standing is Standing.EXPIRED


def test_expired_says_when_the_last_one_expired():
    found = verdict(held(expires_at=10), held(expires_at=900), held(expires_at=500))
    assert (found.standing, found.expires_at, found.activated) == (Standing.EXPIRED, 900, 0)


@pytest.mark.parametrize("expires_at", [0, -5])
def test_moments_before_1970_are_moments(expires_at):
    assert verdict(held(expires_at=expires_at)).expires_at == expires_at
    found = verdict(held(expires_at=expires_at), held(expires_at=expires_at + 2), now=expires_at - 1)
    assert (found.standing, found.expires_at) == (Standing.LICENSED, expires_at)


def test_an_expired_license_beside_one_in_force_does_not_count_and_does_not_hurt():
    found = verdict(held(4, expires_at=10), held(1, expires_at=NOW + 5), held(1, expires_at=NOW + 9), required=2)
    assert (found.standing, found.activated, found.expires_at) == (Standing.LICENSED, 2, NOW + 5)


def test_too_few_because_some_expired_is_too_few_and_says_when_the_next_one_goes():
    found = verdict(held(4, expires_at=10), held(1, expires_at=NOW + 5), required=2)
    assert (found.standing, found.expires_at) == (Standing.TOO_FEW, NOW + 5)


def test_engineering_shows_while_an_engineering_license_is_in_force():
    assert verdict(held(), held(engineering=True)).engineering
    assert not verdict(held(), held(engineering=True, expires_at=10)).engineering
    assert not verdict(held()).engineering
    assert not verdict(held(feature="logs", engineering=True), held()).engineering


def test_a_feature_with_a_count_of_nothing_is_not_there():
    assert verdict(held(count=0)).standing is Standing.NOT_LICENSED
    assert verdict(held(count=0, expires_at=10)).standing is Standing.NOT_LICENSED


def test_requiring_nothing_is_no_violation_but_needs_a_license_all_the_same():
    assert verdict(held(), required=0).is_licensed
    found = verdict(required=0)
    assert (found.standing, found.is_violation) == (Standing.NOT_LICENSED, False)


@pytest.mark.parametrize(
    "found", [verdict(), verdict(held()), verdict(held(), required=2), verdict(held(expires_at=1))]
)
def test_every_verdict_says_why(found):
    assert found.why
    assert found.available == found.activated - found.used
