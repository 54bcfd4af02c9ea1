"""Row 8: a tally file on its way through shells, archives and mail programs."""

import gzip
import io
import textwrap
import zipfile

import pytest

from support.activation import seeded
from tallystick.protocol import messages
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.tallyfile import BadLine, GoodLine, format_file, parse_chunks

KEY = PrivateKey(seeded("key"))
ENVELOPES = [
    KEY.sign(messages.KEYS, b'{"text":"%d, and some more of it so that it is long enough"}' % n) for n in range(3)
]
FILE = b"".join(format_file(ENVELOPES, comment="Tallystick: keys"))


def read(data, size):
    return list(parse_chunks(data[at : at + size] for at in range(0, len(data), size)))


def envelopes(lines):
    assert all(isinstance(line, GoodLine) for line in lines), lines
    return [line.envelope.compact for line in lines]


SAFE = {
    "as it was saved": FILE,
    "windows line ends": FILE.replace(b"\n", b"\r\n"),
    "utf-16 of a shell": FILE.decode().replace("\n", "\r\n").encode("utf-16"),
    "utf-16 the other way round": b"\xfe\xff" + FILE.decode().encode("utf-16-be"),
    "utf-8 with a mark": b"\xef\xbb\xbf" + FILE,
    "quoted in an answer": b"".join(b"> " + line + b"\n" for line in FILE.splitlines()),
    "quoted twice": b"".join(b">> > " + line + b"\n" for line in FILE.splitlines()),
}


@pytest.mark.parametrize("size", [1, 3, 1000, 10**6])
@pytest.mark.parametrize("name", SAFE)
def test_what_is_safe_to_undo_is_read(name, size):
    assert envelopes(read(SAFE[name], size)) == ENVELOPES


def zipped():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("requests.tally", FILE)
    return packed.getvalue()


@pytest.mark.parametrize("size", [1, 10**6])
@pytest.mark.parametrize("data", [zipped(), gzip.compress(FILE)], ids=["zip", "gzip"])
def test_an_archive_is_called_one_once(data, size):
    (line,) = read(data, size)
    assert isinstance(line, BadLine)
    assert line.error.code == "file-packed"


def test_a_saved_mail_is_called_a_mail():
    mail = b"From: ann@example.com\nSubject: licenses\nContent-Type: text/plain\n\n" + FILE
    bad = [line.error.code for line in read(mail, 100) if isinstance(line, BadLine)]
    assert set(bad) == {"file-mail"}
    assert envelopes([line for line in read(mail, 100) if isinstance(line, GoodLine)]) == ENVELOPES


@pytest.mark.parametrize("width", [60, 72, 76, 78])
def test_lines_that_a_mail_program_broke_are_called_so(width):
    broken = "\n".join(textwrap.wrap(ENVELOPES[0], width, break_on_hyphens=False)).encode()
    codes = [line.error.code for line in read(broken, 100) if isinstance(line, BadLine)]
    assert codes.count("file-wrapped") >= len(codes) - 1
    assert codes


def test_an_odd_byte_at_the_end_of_utf_16_costs_nothing():
    assert envelopes(read(FILE.decode().encode("utf-16") + b"\x0a", 7)) == ENVELOPES


def test_a_good_line_behind_an_archive_goes_through():
    lines = read(b"PK\x03\x04" + b"\xff" * 300 + b"\n" + FILE, 50)
    assert [line.error.code for line in lines if isinstance(line, BadLine)] == ["file-packed"]
    assert envelopes([line for line in lines if isinstance(line, GoodLine)]) == ENVELOPES
