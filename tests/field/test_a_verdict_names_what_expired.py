"""Rows 7 and 10: why too little is licensed: what expired, on which line; or the clock, which was ahead."""

from support.fieldserver.helpers import LINE, NOW, OTHER_LINE, holding, license_claim
from tallystick.domain.dates import moment_text
from tallystick.domain.verdict import Standing, decide_verdict
from tallystick.fieldserver import views
from tallystick.fieldserver.checks import Checks

HALF_A_DAY = 43_200


def judged(*claims, required=3, time_seen=NOW, now=NOW):
    licenses = holding(licenses=claims).state.licenses
    return decide_verdict("mqtt", required=required, licenses=licenses, time_seen=time_seen, now=now)


def test_too_few_because_some_expired_names_how_many_of_which_line_and_when():
    found = judged(license_claim(quantity=2, expires=NOW - 60), license_claim(line=OTHER_LINE, quantity=1))
    assert found.standing is Standing.TOO_FEW
    for part in ("3 required, only 1 activated", f"2 of line {LINE}", moment_text(NOW - 60), "extended, then refresh"):
        assert part in found.why
    assert OTHER_LINE not in found.why
    assert "activate more" not in found.why


def test_too_few_with_nothing_expired_is_told_to_activate_more():
    assert judged(license_claim(quantity=1)).why.endswith("activate more")


def test_expired_names_every_line_that_is_over_the_last_one_first():
    found = judged(license_claim(expires=NOW - 90), license_claim(line=OTHER_LINE, expires=NOW - 30))
    assert found.standing is Standing.EXPIRED
    assert found.why.index(OTHER_LINE) < found.why.index(LINE)


def test_what_seems_over_because_the_clock_was_ahead_says_so():
    """It was a day ahead when a license of twelve hours came; then it was set right."""
    state = holding(licenses=(license_claim(expires=NOW + HALF_A_DAY),)).state
    clock = [NOW + 86_400.0]
    checks = Checks(load=lambda: state, stamp=lambda: 1, wall_clock=lambda: clock[0])
    assert "the clock was ahead" not in checks.check("mqtt").why
    clock[0] = float(NOW)
    found = checks.check("mqtt")
    assert found.standing is Standing.EXPIRED  # setting the clock back gains nothing before it has refreshed
    assert found.why.endswith("refresh")
    assert "the clock was ahead" in found.why
    assert "extended" not in found.why


def test_the_report_says_so_too_and_a_refresh_heals_it():
    desk = holding(licenses=(license_claim(expires=NOW + HALF_A_DAY),))
    desk.now = NOW + 86_400
    desk.grant(2, licenses=(license_claim(expires=NOW + HALF_A_DAY),))
    desk.now = NOW
    (feature,) = report(desk)
    assert (feature.standing, "the clock was ahead" in feature.why) == (Standing.EXPIRED, True)
    desk.grant(3, licenses=(license_claim(expires=NOW + HALF_A_DAY),))
    assert [feature.standing for feature in report(desk)] == [Standing.LICENSED]


def report(desk):
    return [
        one
        for one in views.show_licenses(desk.device, desk.state, required={}, now=NOW).features
        if one.feature == "mqtt"
    ]
