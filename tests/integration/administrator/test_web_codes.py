"""QR codes on Device Administrator's pages, without JavaScript: pictures and text out, text and photographs in."""

import re
import signal
from io import BytesIO

import pytest
import segno

from support.adminsite import site_at
from support.browser import words
from support.pagereader import PageReader
from tallystick.administrator.memory import database
from tallystick.administrator.memory.qr_frames import KEPT_SECONDS, TRANSFERS_MAX, FrameBox
from tallystick.errors import Error
from tallystick.protocol.frames import Frame, Gathering, make_frames, parse_frame
from tallystick.protocol.tallyfile import parse_chunks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two field servers with a request each that waits to be carried."""
    with site_at(tmp_path_factory.mktemp("webcodes"), 2) as site:
        _, certificate = site.sell("smartdriver=4")
        site.admin("add", "--csv", site.csv())
        site.admin("entitlement", "add", certificate)
        site.admin("activate", "--all", "--line", "smartdriver=1", "--route", "offline", expect=4)
        site.browser = PageReader(site.web())
        site.browser.enter()
        yield site
        site.browser.close()


@pytest.fixture
def browser(site):
    site.browser.see("/carry/read")
    return site.browser


def texts_of(page):
    return re.search(r"data-texts>(.*?)</pre>", page, re.DOTALL).group(1).split()


def whole(texts):
    frames = [parse_frame(text) for text in texts]
    gathering = Gathering(frames[0].transfer, frames[0].count, {})
    for frame in frames:
        gathering.add(frame)
    return gathering.content()


def devices(browser):
    browser.see("/carry")
    return re.findall(r'name="device" value="([^"]+)"', browser.text)


def requests_in(content):
    return [line.envelope.compact for line in parse_chunks([content])]


@pytest.mark.slow
def test_the_messages_of_one_of_some_and_of_all_field_servers_are_shown(browser):
    ids = devices(browser)
    assert len(ids) == 2
    one = whole(texts_of(browser.see(f"/carry/codes?device={ids[0]}").text))
    two = whole(texts_of(browser.see(f"/carry/codes?device={ids[0]}&device={ids[1]}").text))
    every = whole(texts_of(browser.see("/carry/codes").text))
    assert len(requests_in(one)) == 1
    assert set(requests_in(one)) < set(requests_in(two)) == set(requests_in(every))
    assert texts_of(browser.see(f"/carry/codes?device={ids[0]}").text) == texts_of(
        browser.see(f"/carry/codes?device={ids[0]}").text
    ), "the same messages are the same transfer"


@pytest.mark.slow
def test_only_the_missing_are_shown_when_asked_for(browser):
    page = browser.see("/carry/codes").text
    assert len(re.findall(r'<div class="qr"', page)) == len(texts_of(page))
    assert "style=" not in page
    page = browser.see("/carry/codes?only=1,3-4").text
    assert [parse_frame(text).number for text in texts_of(page)] == [1, 3, 4]


def test_nothing_that_waits_and_too_much_at_once_are_told(browser):
    assert "no-messages" in browser.see("/carry/codes?device=nobody").text
    many = "&".join(["device=x"] * 31)
    assert "frames-too-many" in browser.see(f"/carry/codes?{many}").text


@pytest.mark.slow
def test_replies_are_read_in_two_visits_with_the_program_stopped_between_them(site, tmp_path):
    browser = site.browser
    up, down = tmp_path / "up.tally", tmp_path / "down.tally"
    up.write_bytes(whole(texts_of(browser.see("/carry/codes").text)))
    site.upload(up, down)
    made = make_frames(b"".join(line for line in down.read_bytes().splitlines(True) if not line.startswith(b"#")))
    assert len(made) >= 4
    browser.see("/carry/read")
    browser.send("/carry/read", codes=f"{made[3].text}\n{made[1].text.lower()}\nT1.torn\n")
    assert browser.at == "/carry/read"
    assert f"2 of {len(made)}" in words(browser.text)
    assert "frame-torn" in browser.text

    site.pages.send_signal(signal.SIGKILL)
    site.pages.wait()
    browser.close()
    site.browser = browser = PageReader(site.web())
    browser.enter()
    browser.see("/carry/read")
    assert f"2 of {len(made)}" in words(browser.text)
    left = [frame for frame in made if frame.number not in {2, 4}]
    pictures = []
    for frame in left[1:]:
        out = BytesIO()
        segno.make_qr(frame.text, mode="alphanumeric", error="m").save(out, kind="png", scale=4)
        pictures.append(("photos", (f"{frame.number}.png", out.getvalue(), "image/png")))
    browser.send("/carry/read", files=pictures, codes=left[0].text)
    assert browser.at.startswith("/carry/taken/")
    browser.wait()
    assert "2 of 2 done" in words(browser.text)
    assert site.lines()["smartdriver"]["held"] == 2

    browser.see("/carry/read")
    browser.send("/carry/read", take=made[0].transfer)
    browser.wait()
    assert "2 of 2 done" in words(browser.text), "the same again changes nothing"
    assert site.lines()["smartdriver"]["held"] == 2
    browser.see("/carry/read")
    browser.send("/carry/read", forget=made[0].transfer)
    assert made[0].transfer[:12] not in browser.text


def test_codes_of_something_else_or_that_contradict_are_refused_and_forgotten(browser):
    name = "A" * 16
    browser.send("/carry/read", codes=Frame(transfer=name, number=1, count=2, piece=b"x").text)
    browser.send("/carry/read", codes=Frame(transfer=name, number=1, count=2, piece=b"y").text)
    assert "frame-contradicts" in browser.text
    browser.send("/carry/read", codes=Frame(transfer=name, number=2, count=2, piece=b"y").text)
    assert "frames-differ" in browser.text
    browser.send("/carry/read", forget=name)
    assert name[:12] not in browser.text
    browser.send("/carry/read", take=name)
    assert "not-found" in browser.text


def test_only_the_reading_page_may_ask_for_the_camera(browser):
    assert "camera=(self)" in browser.see("/carry/read").headers["permissions-policy"]
    for path in ("/", "/carry", "/carry/codes"):
        assert "camera=()" in browser.see(path).headers["permissions-policy"]


def test_what_is_kept_is_bounded_in_number_and_in_time(tmp_path):
    opened = database.open_database(tmp_path)
    box = FrameBox(opened)
    names = [symbol * 16 for symbol in "ABCDEFGHIJKLMNOP"]
    assert len(names) == TRANSFERS_MAX
    assert box.keep([Frame(transfer=name, number=1, count=2, piece=b"x") for name in names], now=100) == []
    more = Frame(transfer="Q" * 16, number=1, count=1, piece=b"x")
    ((refused, error),) = box.keep([more], now=101)
    assert (refused, error.code) == (more, "frames-too-many")
    assert box.keep([Frame(transfer="C" * 16, number=2, count=2, piece=b"x"), more], now=102) == []
    kept = {one.gathering.transfer for one in box.transfers()}
    assert "C" * 16 not in kept
    assert more.transfer in kept
    assert box.keep([], now=102 + KEPT_SECONDS) == []
    assert [one.gathering.transfer for one in box.transfers()] == [more.transfer]
    with pytest.raises(Error):
        box.transfer("A" * 16)
    opened.close()
