"""Rule 6, for bodies: no route reads more of one than it may, or waits for its rest for ever, whoever sends it.

The walk reads the lists of routes, so a route that is added tomorrow is walked tomorrow. The application is asked as
uvicorn asks it, and counts what it takes of a body that has no end.
"""

import asyncio
import re

import pytest
from starlette.responses import Response

from support.site import Site
from tallystick.activation.core.permissions import Role
from tallystick.activation.http import bodies, protocol_api
from tallystick.activation.http.portal.base import FORM_BYTES_MAX
from tallystick.activation.http.portal.routes import OPEN_PAGES, PAGES

PIECE = b"a" * 65536
FILL = {"entitlement_id": "ER-AAAAAAAA", "device_id": "x" * 43, "line_id": "7K3M9Q2A", "position": "1", "number": "1"}
ALLOWED = 2 * len(PIECE)  # the piece behind the limit has to be seen


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("bodies"))
    made.account("Harbour")
    yield made
    made.close()


def routes(site):
    described = site.browser().get("/openapi.json").json()["paths"]
    for path, verbs in described.items():
        yield from ((verb.upper(), path) for verb in verbs)
    for path, (_, verbs) in {**OPEN_PAGES, **PAGES}.items():
        yield from ((verb, path) for verb in verbs)


def asked(site, verb, path, *headers, pieces=None):
    """How many bytes the application took of a body without end, and its status. ``pieces``: then it falls silent."""
    taken, status = 0, []

    async def receive():
        nonlocal taken
        if pieces is not None and taken >= pieces * len(PIECE):
            await asyncio.Event().wait()
        assert taken < 64 * 1024 * 1024, f"{verb} {path} reads and reads"
        taken += len(PIECE)
        return {"type": "http.request", "body": PIECE, "more_body": True}

    async def send(event):
        if event["type"] == "http.response.start":
            status.append(event["status"])

    filled = re.sub(r"\{(\w+)(?::\w+)?\}", lambda part: FILL.get(part[1], "AAAAAAAAAAAAAAAA"), path)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": verb, "scheme": "https", "path": filled,
        "raw_path": filled.encode(), "root_path": "", "query_string": b"", "server": ("test", 443),
        "client": ("192.0.2.1", 1), "headers": [(b"host", b"test"), *headers],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(site.web(scope, receive, send), 60))
    return taken, status[0]


BODIES = {
    "of no length": ((b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")),
    "of a small length": ((b"content-length", b"10"), (b"content-type", b"application/json")),
    "a form": ((b"transfer-encoding", b"chunked"), (b"content-type", b"application/x-www-form-urlencoded")),
    "a long form": ((b"content-length", b"99999999"), (b"content-type", b"application/x-www-form-urlencoded")),
    "files": ((b"transfer-encoding", b"chunked"), (b"content-type", b"multipart/form-data; boundary=x")),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("who", ["a stranger", "a technician's token"])
def test_no_route_reads_more_of_a_strangers_body_than_it_may(site, who, body):
    headers = BODIES[body]
    if who != "a stranger":
        headers += ((b"authorization", f"Bearer {site.token(Role.CUSTOMER_TECHNICIAN, 'Harbour')}".encode()),)
    walked = 0
    for verb, path in routes(site):
        if path == bodies.STREAMED:
            continue  # as a stream, in memory that does not depend on its length: test_bad_clients.py
        taken, status = asked(site, verb, path, *headers)
        most = bodies.LARGE_BYTES_MAX.get(path, max(bodies.BODY_BYTES_MAX, FORM_BYTES_MAX))
        assert taken <= most + ALLOWED, (verb, path, taken)
        assert status < 500, (verb, path, status)
        walked += 1
    assert walked > 60


def test_what_is_announced_as_too_large_is_refused_before_a_byte_is_read(site):
    for path in ("/v1/entitlements", "/v1/catalog"):
        for length in (b"99999999", b"9" * 300):
            verb = "PUT" if path == "/v1/catalog" else "POST"
            assert asked(site, verb, path, (b"content-length", length)) == (0, 413)


def test_a_body_that_does_not_end_is_given_up_and_of_many_large_ones_the_oldest_gives_way(site, monkeypatch):
    monkeypatch.setattr(bodies, "WHOLE_SECONDS", 0.05)
    taken, status = asked(site, "POST", "/v1/entitlements", (b"transfer-encoding", b"chunked"), pieces=1)
    assert (taken, status) == (len(PIECE), 408)
    monkeypatch.setattr(bodies, "WHOLE_SECONDS", 3600.0)
    told = []

    async def story():
        async def app(_scope, _receive, _send):
            told.append("whole")

        def refuse(error):
            told.append(error.code)
            return Response()

        async def send(_event):
            return

        bounded = bodies.Bodies(app, refuse)

        async def one():
            sent = [{"type": "http.request", "body": PIECE, "more_body": True}] * 2

            async def receive():
                return sent.pop() if sent else await asyncio.Event().wait()

            scope = {"type": "http", "path": "/v1/catalog", "headers": [(b"transfer-encoding", b"chunked")]}
            await bounded(scope, receive, send)

        waiting = [asyncio.ensure_future(one()) for _ in range(bodies.LARGE_AT_ONCE + 3)]
        done, others = await asyncio.wait(waiting, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, others = await asyncio.wait(others, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert done == set(waiting[:3])
        assert len(bounded._large._deadlines) == bodies.LARGE_AT_ONCE
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert bounded._large._deadlines == []

    asyncio.run(story())
    assert told == ["request-too-slow"] * 3


def test_of_tally_files_that_fell_silent_with_much_in_memory_who_waits_longest_gives_way():
    async def story():
        waiting = bodies.Waiting(2)

        class Silent:
            async def stream(self):
                yield b"first"
                await asyncio.Event().wait()

        async def read(*, is_heavy):
            return [piece async for piece in protocol_api._pieces(Silent(), waiting, lambda: is_heavy)]

        light = [asyncio.ensure_future(read(is_heavy=False)) for _ in range(5)]
        heavy = []
        for _ in range(4):
            heavy.append(asyncio.ensure_future(read(is_heavy=True)))
            for _turn in range(20):  # until it waits
                await asyncio.sleep(0)
        ended, _ = await asyncio.wait(heavy[:2], timeout=60)
        assert {task.exception().code for task in ended} == {"request-too-slow"}
        assert not done_of(light) + done_of(heavy[2:])
        for task in (*light, *heavy[2:]):
            task.cancel()
        await asyncio.gather(*light, *heavy, return_exceptions=True)
        assert not waiting._deadlines

    def done_of(tasks):
        return [task for task in tasks if task.done()]

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_catalog_as_large_as_one_may_be_is_taken(site):
    products = {
        f"p{number}": {"name": "n" * 128, "kinds": ["AS-P"], "features": {"f" * 32: 1}} for number in range(2000)
    }
    client = site.client()
    version = client.get("/v1/catalog").headers["etag"]
    answer = client.put("/v1/catalog", json={"kinds": ["AS-P"], "products": products}, headers={"If-Match": version})
    assert answer.status_code == 200, answer.text[:300]
