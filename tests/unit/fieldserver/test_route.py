"""The field server's own route: a courier that may fail as any other may."""

import httpx2
import msgspec
import pytest

from support.fieldserver.helpers import NOW, Issuer
from support.fieldserver.rig import Rig
from tallystick.errors import Error
from tallystick.fieldserver.route import ActivationRoute
from tallystick.fieldserver.state import Refresh
from tallystick.protocol import messages
from tallystick.protocol.envelope import open_envelope


def said(content):
    return httpx2.Response(200, stream=httpx2.ByteStream(content))


class Office:
    """An activation server that grants whatever is asked, over HTTP, and remembers what came."""

    def __init__(self, rig):
        self.rig, self.issuer = rig, rig.desk.issuer
        self.calls, self.number, self.is_down, self.answers = [], 0, False, True

    def __call__(self, request):
        self.calls.append(f"{request.method} {request.url.path}")
        if self.is_down:
            raise httpx2.ConnectError("no route")
        match request.url.path:
            case "/healthz":
                return httpx2.Response(200)
            case "/v1/keys":
                return said(self.issuer.keyset(self.version()).encode())
            case "/v1/messages":
                return said("\n".join(self.reply(request.content)).encode())
        return httpx2.Response(404)

    def version(self):
        return 1 if self.issuer.name == "vendor.example" and self.number == 0 else 2

    def reply(self, body):
        for line in body.splitlines() if self.answers else ():
            message = messages.convert_claims(open_envelope(line).payload, messages.Request)
            digest = self.rig.agent.outbox()[0].digest
            if message.purpose == "confirm":
                yield self.issuer.credit(message.iss, digest, seen=message.sequence)
            else:
                self.number += 1
                yield self.issuer.grant(message.iss, self.number, request=digest, seen=message.sequence, confirm=True)


class Line:
    def __init__(self):
        self.rig = Rig()
        self.office = Office(self.rig)
        self.now = 0.0
        self.route = ActivationRoute(
            "http://office.example/",
            agent=self.rig.agent,
            clock=self.rig.clock,
            random=self.rig.agent._random,
            monotonic=lambda: self.now,
            transport=httpx2.MockTransport(self.office),
        )


@pytest.fixture
def line():
    made = Line()
    yield made
    made.route.stop()


def test_it_fetches_the_keys_when_it_has_none(line):
    line.route.carry()
    assert line.rig.agent.peek().keyset.issuer == "vendor.example"
    assert line.office.calls == ["GET /v1/keys"]


def test_it_carries_all_legs_at_once(line):
    line.route.carry()
    line.rig.agent.ask(Refresh())
    line.route.carry()
    state = line.rig.agent.peek()
    assert (state.applied.number, state.outbox) == (1, ())
    assert [str(outcome.fate) for outcome in state.outcomes] == ["granted", "credited"]


def test_it_carries_nothing_when_nothing_waits(line):
    line.route.carry()
    line.route.carry()
    assert line.office.calls == ["GET /v1/keys"]


def test_it_fetches_the_keys_again_when_a_reply_has_an_unknown_one(line):
    line.route.carry()
    line.rig.agent.ask(Refresh())
    line.office.issuer.key = Issuer(seed=55).key
    line.route.carry()
    state = line.rig.agent.peek()
    assert (state.keyset.version, state.applied.number) == (2, 1)


def test_it_gives_up_for_now_when_no_reply_clears_anything(line):
    line.route.carry()
    line.rig.agent.ask(Refresh())
    line.office.answers = False
    line.route.carry()
    assert line.office.calls.count("POST /v1/messages") == 1
    assert len(line.rig.agent.outbox()) == 1


def test_no_answer_loses_nothing(line):
    line.route.carry()
    asked = line.rig.agent.ask(Refresh()).message
    line.office.is_down = True
    with pytest.raises(httpx2.ConnectError):
        line.route.carry()
    assert line.rig.agent.outbox() == (asked,)


def test_an_answer_that_is_none_is_named(line):
    line.route._url = "http://office.example/else"
    with pytest.raises(Error) as caught:
        line.route.carry()
    assert caught.value.code == "unreachable"


def looked(line):
    """What is known after a look, where one is due."""
    looking = line.route.look()
    if looking is not None:
        looking.result(10)
    return line.route.status()


def test_it_says_whether_the_activation_server_answers_and_asks_seldom(line):
    assert line.route.status().reachable is False
    first = looked(line)
    assert msgspec.to_builtins(first) == {
        "url": "http://office.example",
        "reachable": True,
        "why": "http://office.example answered",
        "checked_at": NOW,
    }
    line.office.is_down = True
    line.now = 9.0
    assert looked(line) == first
    line.now = 11.0
    assert looked(line).reachable is False
    assert "no route" in looked(line).why
    assert line.office.calls == ["GET /healthz"] * 2


def test_its_thread_carries_when_it_is_woken_and_ends_when_it_is_stopped(line):
    line.route.start()
    deadline = 200
    while line.rig.agent.peek().keyset is None and deadline:
        line.route._stopped.wait(0.02)
        deadline -= 1
    line.rig.agent.ask(Refresh())
    line.route.wake()
    while line.rig.agent.peek().outbox and deadline:
        line.route._stopped.wait(0.02)
        deadline -= 1
    assert line.rig.agent.peek().applied.number == 1
    line.route.stop()
    line.route._thread.join(5)
    assert not line.route._thread.is_alive()
