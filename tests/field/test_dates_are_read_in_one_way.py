"""Rows 1 and 2: a bare date is a whole day, UTC, however it is written; which end counts is that of the period."""

import datetime as dt

import pytest

from support.chromium import served
from tallystick.activation.commands.console import parse_expiry
from tallystick.activation.core.permissions import Role
from tallystick.activation.http.portal.forms import parse_day
from tallystick.domain.dates import parse_moment
from tallystick.errors import Error

DAY = 1_830_211_200  # 2027-12-31T00:00:00Z
FORMS = ["2027-12-31", "20271231", " 2027-12-31 ", "2027-W52-5", "2027W525"]


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_a_day_ends_with_the_day_and_begins_with_it(text):
    assert parse_moment(text, is_end=True) == DAY + 86_399
    assert parse_moment(text, is_end=False) == DAY
    assert parse_expiry(text) == parse_day(text) == DAY + 86_399
    assert parse_day(text, is_end=False) == DAY


def test_a_moment_is_that_moment_at_either_end():
    for text, at in [
        ("2027-12-31T12:00:00Z", DAY + 43_200),
        ("20271231T120000", DAY + 43_200),
        ("2027-12-31 01:00+01:00", DAY),
    ]:
        assert parse_moment(text, is_end=True) == parse_moment(text, is_end=False) == at


@pytest.mark.parametrize("text", ["", "31.12.2027", "12/31/2027", "2027-13-01", "tomorrow", "2027", "9" * 400])
def test_what_is_no_date_is_refused_with_an_example(text):
    with pytest.raises(Error) as refused:
        parse_moment(text, is_end=True)
    assert refused.value.code == "date-wrong"
    assert "2027-12-31" in refused.value.expected


@pytest.fixture(params=["data", "url"])
def command(request, site, tmp_path, run_command):
    if request.param == "data":
        yield lambda *words: run_command(*words, "--data", site.data / "data")
        return
    token = tmp_path / "token"
    token.write_text(site.token(Role.VENDOR_ADMINISTRATOR))
    with served(site.web) as url:
        yield lambda *words: run_command(*words, "--url", url, "--token-file", token)


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y%m%d"])
def test_a_license_until_a_day_ends_with_the_day(command, form):
    made = command(
        "entitlement",
        "create",
        "--account",
        "A",
        "--product",
        "smartdriver=1",
        "--expires",
        f"{dt.date(2097, 12, 31):{form}}",
    )
    assert [line["expires_at"] % 86_400 for line in made["lines"]] == [86_399]


def test_since_today_has_what_was_booked_today_and_until_today_too(site, command):
    made = command("entitlement", "create", "--account", "A", "--product", "smartdriver=1")
    (entry,) = command("ledger", made["lines"][0]["line"])
    today = dt.datetime.fromtimestamp(entry["booked_at"], dt.UTC).date()
    yesterday, tomorrow = today - dt.timedelta(days=1), today + dt.timedelta(days=1)
    assert len(command("ledger", "--since", today)) == len(command("ledger", "--until", today)) == 1
    assert len(command("ledger", "--since", today, "--until", today)) == 1
    assert command("ledger", "--since", tomorrow) == command("ledger", "--until", yesterday) == []


def test_what_ends_on_a_day_does_not_expire_before_it(command):
    command("entitlement", "create", "--account", "A", "--product", "smartdriver=1", "--expires", "2097-12-31")
    assert command("lines", "--expires-before", "2097-12-31") == []
    assert len(command("lines", "--expires-before", "2098-01-01")) == 1
