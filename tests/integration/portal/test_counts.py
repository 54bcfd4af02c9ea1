"""Counts are of all there is, and a list that has no room for everything says so: on pages, in mails, at the terminal."""

import json
import os
import re

import pytest
from typer.testing import CliRunner

from support.activation import DAY
from support.site import Site
from tallystick import cli
from tallystick.activation.core.books import Books
from tallystick.activation.core.permissions import Role
from tallystick.activation.core.ports import IncidentKind
from tallystick.activation.outbound.mail import TOLD_MAX, Digest
from tallystick.activation.settings import MailSettings
from tallystick.domain.ids import DeviceId

pytestmark = pytest.mark.slow

HELD, USED_UP, EXPIRING, INCIDENTS = 61, 63, 66, 70


def incidents(site, count):
    def work(transaction):
        books = Books(transaction, site.activation.signer, now=site.now)
        for number in range(count):
            books.note(IncidentKind.ROLLBACK, DeviceId(""), f"number {number}")
        books.save()

    site.activation.transact(work)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """More than a page of everything that a page, a mail or a command counts."""
    made = Site(tmp_path_factory.mktemp("counts"))
    line = made.sell("Harbour", ("smartdriver", 2 * HELD)).lines[0]
    devices = [made.activated(made.device(f"d{number}"), (line, 1)) for number in range(HELD)]
    for device in devices:
        made.post(device.give_back())
    many = made.sell("Harbour", ("smartdriver", 2 * USED_UP), *[("mqtt", 1)] * USED_UP).lines
    edges = [
        made.activated(made.device(f"e{number}", kind="Edge Server"), (each, 1)) for number, each in enumerate(many[1:])
    ]
    assert len(edges) == USED_UP
    made.sell("Airport", *[("mqtt", 2)] * EXPIRING, expires_at=made.now + 3 * DAY)
    incidents(made, INCIDENTS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def reader(site):
    return site.signed_in("ana@example.com")


def walked(reader, path, pattern):
    """How often ``pattern`` is on a page and on all that follow."""
    count = 0
    while path:
        text = flat(reader.see(path).text)
        count += len(re.findall(pattern, text))
        following = re.search(r'href="([^"]+)">Next page', text)
        path = following and following[1].replace("&amp;", "&")
    return count


def flat(text):
    """A page without the blanks that say nothing between its marks."""
    return re.sub(r">\s+<", "><", re.sub(r"\s+", " ", text))


def listed(client, path, cursor="after"):
    found, place = [], None
    while True:
        page = client.get(path, params={"limit": 50, **({cursor: place} if place else {})}).json()
        found += page["items"]
        place = page["next"]
        if place is None:
            return found


COUNTED = {
    "open returns": ("/returns", "/v1/returns", "after", HELD),
    "incidents not resolved": ("/incidents", "/v1/incidents", "before", INCIDENTS),
    "lines used up": ("/lines?show=used-up", "/v1/lines?used_up=true", "after", USED_UP),
    "lines expiring or expired": (
        "/lines?show=expiring",
        f"/v1/lines?expires_before={1_800_000_000 + 30 * DAY}",
        "after",
        EXPIRING,
    ),
}
ROWS = r'<li class="danger">|<tr><th scope="row">'


@pytest.mark.parametrize("name", COUNTED)
def test_home_counts_what_the_whole_list_and_the_api_have(site, reader, name):
    page, path, cursor, expected = COUNTED[name]
    home = flat(reader.see("/").text)
    said = re.search(rf'href="([^"]+)"><span class="figure">([\d,]+)</span>\s*{name}', home)
    assert said, home
    assert (said[1], int(said[2].replace(",", ""))) == (page, expected)
    assert walked(reader, page, ROWS) == expected
    base, _, query = path.partition("?")
    client = site.client()
    client.params = dict(part.split("=") for part in query.split("&") if part)
    assert len(listed(client, base, cursor)) == expected


def test_what_home_has_no_room_for_is_said_with_a_way_to_all_of_it(reader):
    home = flat(reader.see("/").text)
    cut = re.findall(r'The first (\d+) of (\d+)\.\s*<a href="([^"]+)">Show all', home)
    assert cut == [("20", str(expected), page) for page, _path, _cursor, expected in COUNTED.values()]


def test_a_technicians_home_says_it_too(site):
    technician = site.signed_in("tom@example.com", Role.CUSTOMER_TECHNICIAN, "Harbour")
    assert f"The first 20 of {HELD}." in technician.see("/").text


def test_a_list_that_has_room_says_nothing_of_a_cut(tmp_path):
    small = Site(tmp_path)
    small.sell("Harbour", ("mqtt", 2), expires_at=small.now + DAY)
    incidents(small, 20)
    home = flat(small.signed_in("ana@example.com").see("/").text)
    assert "The first" not in home
    assert re.search(r'figure">20</span>\s*incidents not resolved', home)
    small.close()


def test_every_list_of_the_portal_has_as_many_as_the_apis(site, reader):
    client = site.client()
    for page, path, cursor, pattern in (
        ("/field-servers", "/v1/field-servers", "after", r'row"><a href="/field-servers/'),
        ("/lines", "/v1/lines", "after", r'row"><a href="/lines/'),
        ("/entitlements", "/v1/entitlements", "before", r'<h2><a href="/entitlements/'),
        ("/ledger", "/v1/ledger", "before", r'<th scope="row" class="nowrap">'),
        ("/trail", "/v1/trail", "before", r'<th scope="row" class="nowrap">'),
        ("/webhooks", "/v1/webhooks", "after", r'row"><a href="/webhooks/'),
    ):
        if page == "/trail":
            expected = len(listed(client, path, cursor))
            assert walked(reader, page, pattern) == expected
        else:
            assert walked(reader, page, pattern) == len(listed(client, path, cursor)), page


def test_a_digest_counts_everything_and_what_it_has_no_room_for_comes_with_the_next(tmp_path):
    site, mails = Site(tmp_path), []
    settings = MailSettings(host="mail.example.com", sender="a@example.com", recipients=("b@example.com",), hours=1)
    digest = Digest(
        store=site.activation.store,
        settings=settings,
        issuer="licenses.example.com",
        clock=site.clock,
        send=lambda _settings, mail: mails.append(mail),
    )
    incidents(site, 2 * TOLD_MAX + 7)
    site.activation.transact(lambda tx: tx.events.assign_positions(os.urandom))
    site.sell("Airport", *[("mqtt", 2)] * 9, expires_at=site.now + DAY)
    told = []
    for _ in range(4):
        told.append(digest.run_once())
        site.now += 3600
    assert told == [TOLD_MAX, TOLD_MAX, 16, 0]
    subjects = [mail["Subject"] for mail in mails]
    assert [re.findall(r"Incidents: (\d+)", subject) for subject in subjects] == [["1007"], ["507"], ["7"]]
    assert ["Lines that expire: 9" in subject for subject in subjects] == [True, True, True]
    texts = "".join(mail.get_content() for mail in mails)
    assert "Incidents: 500 of 1007 are in this mail; the rest comes with the next." in texts
    assert "Lines that expire: 0 of 9 are in this mail" in texts
    numbers = [int(number) for number in re.findall(r": number (\d+)$", texts, re.MULTILINE)]
    assert sorted(numbers) == list(range(2 * TOLD_MAX + 7))
    site.close()


@pytest.mark.parametrize(("words", "all_of_it"), [(["audit"], "--all"), (["events"], "--limit=1000")])
def test_a_command_that_shows_a_part_says_so(site, words, all_of_it):
    def said(*more):
        done = CliRunner().invoke(cli.app, ["activation", *words, *more, "--data", str(site.data / "data")])
        assert done.exit_code == 0, done.output
        return done.output

    assert "These are 5; there are more: --" in said("--limit=5")
    assert len(json.loads(said("--limit=5", "--json"))) == 5
    everything = len(json.loads(said(all_of_it, "--json")))
    assert everything > 5
    assert "there are more" not in said(all_of_it)
    assert "there are more" not in said(f"--limit={min(everything, 200)}") or everything > 200
