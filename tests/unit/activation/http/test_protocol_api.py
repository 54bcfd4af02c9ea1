"""Corners of the HTTP API that a real client would take long to reach."""

import asyncio
import tempfile

import pytest

from support.activation import Bench, Device
from tallystick.activation.core.exchanges import CHUNK_LINES_MAX, read_lines
from tallystick.activation.http import protocol_api
from tallystick.activation.http.bodies import Waiting
from tallystick.activation.http.strangers import Strangers
from tallystick.errors import Error
from tallystick.protocol.tallyfile import parse_chunks


class Request:
    """A body that stops arriving."""

    def __init__(self, *pieces):
        self.pieces = pieces

    async def stream(self):
        for piece in self.pieces:
            yield piece
        await asyncio.sleep(60)


def test_a_body_that_stops_arriving_is_given_up(monkeypatch):
    monkeypatch.setattr(protocol_api, "BODY_IDLE_SECONDS", 0.02)
    seen = []

    async def read():
        pieces = aiter(protocol_api._pieces(Request(b"a", b"b"), Waiting(1), lambda: True))
        while True:
            seen.append(await anext(pieces))

    with pytest.raises(Error) as refused:
        asyncio.run(read())
    assert (refused.value.code, seen) == ("request-too-slow", [b"a", b"b"])


def test_replies_and_messages_that_do_not_fit_on_the_disk_are_a_problem_with_a_code(monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda **_: Full())
    request = type("Request", (), {"headers": {}, "client": None})()
    context = type("Context", (), {"strangers": Strangers(clock=float)})()
    exchange = protocol_api._Exchange(context, request)
    bench = Bench()
    wish = Device("roof").activate((bench.buy(1), 1)).encode()
    waiting = read_lines(list(parse_chunks([wish, b"\n"] * (CHUNK_LINES_MAX + 1))), bench.signer.keyset)
    for write in (lambda: exchange._write(1, b"x"), lambda: exchange._hold(waiting)):
        with pytest.raises(Error) as refused:
            write()
        assert refused.value.code == "disk-full"
