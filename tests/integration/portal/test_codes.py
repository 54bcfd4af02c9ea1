"""QR codes at the activation server's page without JavaScript: text and photographs in, replies as codes out."""

import re
import struct
import zlib
from io import BytesIO

import pytest
import segno
from PIL import Image

from support.browser import Reader, words
from support.site import PASSWORD
from tallystick.activation.core.permissions import Role
from tallystick.activation.services import qr_codes
from tallystick.activation.storage.frames import KEPT_SECONDS
from tallystick.pages import photos
from tallystick.protocol.frames import Frame, Gathering, make_frames, parse_frame
from tallystick.protocol.messages import CREDIT
from tallystick.protocol.tallyfile import parse_chunks

pytestmark = pytest.mark.slow

PATH = "/deliver/codes"


@pytest.fixture
def bought(site):
    return site.sell("Harbour", ("smartdriver", 10))


@pytest.fixture
def technician(site, bought):
    return site.signed_in("cy@example.com", Role.CUSTOMER_TECHNICIAN, "Harbour")


def picture(*frames, kind="png", scale=5):
    """Codes on one photograph, as a telephone makes it."""
    shots = []
    for frame in frames:
        out = BytesIO()
        segno.make_qr(frame.text, mode="alphanumeric", error="m", boost_error=False).save(out, kind="png", scale=scale)
        shots.append(Image.open(BytesIO(out.getvalue())).convert("L"))
    whole = Image.new("L", (sum(shot.width for shot in shots) + 20, shots[0].height + 40), 150)
    for place, shot in enumerate(shots):
        whole.paste(shot, (10 + place * shot.width, 20))
    out = BytesIO()
    whole.rotate(3, expand=True, fillcolor=150).save(out, kind)
    return out.getvalue()


def read(reader, *frames, pictures=(), text=None):
    csrf = reader.form(PATH).fields["csrf"]
    typed = "\n".join(frame.text for frame in frames) if text is None else text
    files = [("photos", (f"{place}.jpg", data, "image/jpeg")) for place, data in enumerate(pictures)]
    return reader.client.post(PATH, data={"csrf": csrf, "codes": typed}, files=files or None)


def press(reader, **fields):
    csrf = reader.form(PATH).fields["csrf"]
    return reader.client.post(PATH, data={"csrf": csrf, **fields})


def shown(text):
    """The texts of the codes of a page, each of which its picture is of."""
    texts = re.search(r"data-texts>(.*?)</pre>", text, re.DOTALL).group(1).split()
    assert len(re.findall(r'<div class="qr"', text)) == len(texts)
    return texts


def gathered(texts):
    found = [parse_frame(text) for text in texts]
    gathering = Gathering(found[0].transfer, found[0].count, {})
    for frame in found:
        gathering.add(frame)
    return gathering.content()


def test_a_technician_brings_a_proof_as_codes_and_takes_the_receipt_as_codes(site, bought, technician):
    device = site.activated(site.device("roof"), (bought.lines[0], 2))
    made = make_frames(f"{device.relinquish()}\n".encode())
    assert len(made) >= 3
    answer = read(technician, made[2])
    assert "1 of 3" in words(answer.text)
    assert "1-2" in words(answer.text)
    site.now += 3600  # the session is over; another one, in another browser, goes on
    technician = Reader(site.browser())
    technician.send("/sign-in", email="cy@example.com", password=PASSWORD)
    answer = read(technician, made[0], made[2], made[1])
    assert answer.url.path == f"{PATH}/{made[0].transfer}"
    assert "credited" in words(answer.text)
    content = gathered(shown(answer.text))
    assert CREDIT in {line.envelope.typ for line in parse_chunks([content])}
    assert site.line(bought.lines[0].line_id).balances.available == 10

    only = technician.see(f"{PATH}/{made[0].transfer}?only=2")
    assert [parse_frame(text).number for text in shown(only.text)] == [2]
    again = read(technician, made[1])  # read once more: answered the same
    assert gathered(shown(again.text)) == content
    assert site.line(bought.lines[0].line_id).balances.available == 10


def test_photographs_are_read_several_codes_at_a_time(site, bought, technician):
    device = site.activated(site.device("roof"), (bought.lines[0], 2))
    made = make_frames(f"{device.relinquish()}\n".encode())
    answer = read(technician, pictures=[picture(made[1], made[2]), picture(made[0], kind="jpeg")])
    assert answer.url.path == f"{PATH}/{made[0].transfer}", words(answer.text)
    assert "credited" in words(answer.text)


def bomb(width, height):
    """A PNG of a few bytes that says it is as large as that."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\x00" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        b"GIF89a" + b"\x00" * 50,
        picture(Frame(transfer="A" * 16, number=1, count=1, piece=b"x"))[:500],
        bomb(60_000, 60_000),
        bomb(12_000, 12_000),
        bomb(2_000_000, 2_000_000),
    ],
    ids=["empty", "text", "gif", "cut", "bomb", "smaller bomb", "larger bomb"],
)
def test_a_picture_that_is_none_is_said_to_be_none_and_the_others_are_taken(technician, data):
    good = Frame(transfer="B" * 16, number=1, count=2, piece=b"x")
    answer = read(technician, pictures=[data, picture(good)])
    assert answer.status_code == 200
    assert "photo-unreadable" in answer.text
    assert "1 of 2" in words(answer.text)


def test_a_picture_without_a_code_or_with_too_many_bytes_is_said_to_be_so(technician):
    out = BytesIO()
    Image.new("L", (300, 300), 90).save(out, "png")
    answer = read(technician, pictures=[out.getvalue(), b"\xff" * (photos.PHOTO_BYTES_MAX + 1)])
    assert answer.text.count("<code>photo-unreadable</code>") == 2
    assert "without a readable code" in answer.text
    assert "16 MiB" in answer.text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("hello", "frame-torn"),
        (Frame(transfer="A" * 16, number=1, count=2, piece=b"x").text[:-1], "frame-torn"),
        ("T2.AAAAAAAAAAAAAAAA.1.1.AAAAAAAA", "frame-version"),
        ("<script>alert(1)</script>", "frame-torn"),
    ],
)
def test_a_bad_code_has_its_sentence_and_its_next_step(technician, text, code):
    good = Frame(transfer="A" * 16, number=2, count=2, piece=b"y")
    answer = read(technician, text=f"{text} {good.text}")
    assert answer.status_code == 200
    assert code in answer.text
    assert "<script>alert" not in answer.text
    assert "1 of 2" in words(answer.text)


def test_codes_that_contradict_are_told_apart_and_the_first_can_be_forgotten(technician):
    first = Frame(transfer="A" * 16, number=1, count=2, piece=b"x")
    read(technician, first)
    for other in ({"piece": b"y"}, {"count": 3}):
        values = {"transfer": "A" * 16, "number": 1, "count": 2, "piece": b"x"} | other
        answer = read(technician, Frame(**values))
        assert "frame-contradicts" in answer.text
        assert "1 of 2" in words(answer.text)
    assert "1 of 2" not in words(press(technician, forget="A" * 16).text)


def test_codes_that_are_something_else_together_say_so(technician):
    answer = read(technician, *(Frame(transfer="A" * 16, number=number, count=2, piece=b"x") for number in (1, 2)))
    assert "frames-differ" in answer.text
    assert technician.see(f"{PATH}/{'A' * 16}").status_code == 422


def test_a_transfer_that_is_not_whole_or_not_known_has_no_replies(technician):
    read(technician, Frame(transfer="A" * 16, number=1, count=2, piece=b"x"))
    assert "frames-missing" in technician.see(f"{PATH}/{'A' * 16}").text
    assert technician.see(f"{PATH}/{'B' * 16}").status_code == 404


def test_a_whole_file_without_a_message_says_so(technician):
    answer = read(technician, *make_frames(b"just some words\n"))
    assert "not-text" in answer.text
    assert answer.url.path == PATH


def test_what_others_read_is_nobodys_business(site, bought, technician):
    other = site.signed_in("dee@example.com", Role.CUSTOMER_TECHNICIAN, "Harbour")
    device = site.activated(site.device("roof"), (bought.lines[0], 2))
    made = make_frames(f"{device.relinquish()}\n".encode())
    read(technician, *made)
    assert made[0].transfer[:12] not in other.see(PATH).text
    assert other.see(f"{PATH}/{made[0].transfer}").status_code == 404
    press(other, forget=made[0].transfer)
    assert technician.see(f"{PATH}/{made[0].transfer}").status_code == 200


def test_a_message_of_another_accounts_field_server_is_not_carried_by_codes(site, bought, technician):
    other = site.sell("Airport", ("smartdriver", 5))
    device = site.activated(site.device("tower"), (other.lines[0], 2))
    made = make_frames(f"{device.relinquish()}\n".encode())
    answer = read(technician, *made)
    assert "outside-scope" in answer.text
    assert site.line(other.lines[0].line_id).balances.available == 3
    page = technician.see(f"{PATH}/{made[0].transfer}")
    assert "not taken" in words(page.text)
    assert "data-texts" not in page.text


def test_transfers_are_limited_and_whole_ones_make_room(technician):
    names = [f"{symbol * 16}" for symbol in "ABCDEFGHIJKLMNOP"]
    assert len(names) == qr_codes.TRANSFERS_MAX
    read(technician, *(Frame(transfer=name, number=1, count=2, piece=b"x") for name in names))
    answer = read(technician, Frame(transfer="Q" * 16, number=1, count=2, piece=b"x"))
    assert "frames-too-many" in answer.text
    read(technician, Frame(transfer="C" * 16, number=2, count=2, piece=b"x"))
    answer = read(technician, Frame(transfer="Q" * 16, number=1, count=2, piece=b"x"))
    assert "frames-too-many" not in answer.text
    assert "Q" * 12 in answer.text
    assert "C" * 12 not in answer.text


def test_too_many_codes_at_once_are_refused(technician):
    text = " ".join(["x"] * 401)
    assert "frames-too-many" in read(technician, text=text).text
    assert "frames-too-many" in read(technician, text="x" * 400_001).text


def test_what_nobody_goes_on_with_is_forgotten_after_a_month(site, technician):
    frame = Frame(transfer="A" * 16, number=1, count=2, piece=b"x")
    read(technician, frame)
    site.now += KEPT_SECONDS + 1
    fresh = site.signed_in("eve@example.com", Role.VENDOR_SUPPORT)
    read(fresh, Frame(transfer="B" * 16, number=1, count=2, piece=b"x"))
    left = site.activation.read(
        lambda transaction: transaction.connection.exec_driver_sql("SELECT transfer FROM frames").scalars().all()
    )
    assert left == ["B" * 16]


def test_only_the_reading_page_may_ask_for_the_camera(technician):
    assert "camera=(self)" in technician.see(PATH).headers["permissions-policy"]
    for path in ("/", "/deliver", "/me"):
        assert "camera=()" in technician.see(path).headers["permissions-policy"]


def test_the_decoder_is_served_from_here_as_a_script(technician):
    page = technician.see(PATH).text
    address = re.search(r'data-decoder="([^"]+)"', page).group(1)
    answer = technician.see(address)
    assert answer.headers["content-type"].startswith("text/javascript")
    assert technician.see(address.replace("decode.js", "../../../etc/passwd")).status_code == 404
    names = re.findall(r"^import .* from '([^']+)'", answer.text, re.MULTILINE)
    assert names == ["./index.js"]
    assert technician.see(address.replace("decode.js", "index.js")).status_code == 200
