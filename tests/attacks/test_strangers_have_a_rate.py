"""Rule 5: who proved nothing has a rate, by address and by key, and no field server that is known waits for it."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from support.activation import Bench, Device
from support.served import Data, Served
from support.site import ISSUER, Site
from tallystick.activation.core.exchanges import read_lines, results_of
from tallystick.activation.http import protocol_api, strangers
from tallystick.activation.http.strangers import (
    ADDRESS_AT_ONCE,
    KEPT_MAX,
    KEY_AT_ONCE,
    OPEN_MAX,
    WAITING_MAX,
    Strangers,
)
from tallystick.connections.listening import Places
from tallystick.protocol.tallyfile import BadLine, parse_chunks


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def lines(*compacts):
    return list(parse_chunks(["\n".join(compacts).encode()]))


def paused(screened):
    return sum(isinstance(line, BadLine) for line in screened)


def test_an_address_has_a_rate_whatever_keys_it_invents_and_no_other_address_pays():
    clock, told = Clock(), []
    here = Strangers(clock=clock, tell=lambda: told.append(1))
    said = lines(*(Device(f"s{number}").say("refresh") for number in range(30))) * (ADDRESS_AT_ONCE // 10)
    screened, is_beyond = here.visit("192.0.2.1").screen(lines(Device("first").say("refresh")))
    assert (paused(screened), is_beyond) == (0, False)
    keys = [Device(f"k{number}").say("refresh") for number in range(120)]
    for _ in range(KEY_AT_ONCE):  # each key its fill: more than the address has
        screened, _ = here.visit("192.0.2.1").screen(lines(*keys))
    assert paused(screened) > 0
    assert len(told) == 120 * KEY_AT_ONCE - (ADDRESS_AT_ONCE - 1)
    assert screened[-1].error.code == "strangers-paused"
    assert paused(here.visit("192.0.2.2").screen(said[:1])[0]) == 0
    clock.now += 60
    assert paused(here.visit("192.0.2.1").screen(said[:1])[0]) == 0


def test_a_key_has_a_rate_from_however_many_addresses():
    here = Strangers(clock=Clock())
    said = lines(Device("one").say("refresh"))
    found = [paused(here.visit(f"192.0.2.{number}").screen(said)[0]) for number in range(KEY_AT_ONCE + 5)]
    assert found == [0] * KEY_AT_ONCE + [1] * 5


def test_what_is_kept_of_strangers_is_bounded():
    here = Strangers(clock=Clock())
    said = lines(Device("one").say("refresh"))
    for number in range(KEPT_MAX + 10):
        here.visit(f"address {number}").screen(said)
    assert len(here._memory.addresses._left) <= KEPT_MAX


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(strangers, "ADDRESS_AT_ONCE", 5)
    monkeypatch.setattr(strangers, "ADDRESS_PER_SECOND", 1e-9)
    monkeypatch.setattr(protocol_api, "SLOW_SECONDS", 0.01)
    made = Site(tmp_path)
    yield made
    made.close()


def test_who_is_known_is_heard_beside_a_flood_from_the_same_address_and_the_flood_is_counted(site):
    line = site.sell("Harbour", ("smartdriver", 9)).lines[0]
    web = TestClient(site.web)

    def post(*compacts):
        return web.post("/v1/messages", content="\n".join(compacts), headers={"Accept": "application/json"}).json()

    device = Device("honest", aud=ISSUER)
    assert post(device.activate((line, 1)))[0]["outcome"] == "granted"
    flood = [Device(f"stranger {number}", aud=ISSUER).say("refresh") for number in range(40)]
    codes = [row["code"] for row in post(*flood)]
    assert codes == ["not-enrolled"] * 5 + ["strangers-paused"] * 35
    assert post(device.say("refresh"), flood[-1])[0]["outcome"] == "granted"
    assert post(flood[0], device.say("refresh"))[1]["outcome"] == "granted"  # by how its envelopes begin
    metrics = TestClient(site.web, client=("127.0.0.1", 1)).get("/metrics", headers={"Host": "127.0.0.1"}).text
    assert re.search(r"^tallystick_messages_of_strangers_paused_total 37\.0$", metrics, re.MULTILINE)


def test_many_first_contacts_that_prove_something_use_up_nothing(site):
    line = site.sell("Harbour", ("smartdriver", 60)).lines[0]
    web = TestClient(site.web)
    for number in range(20):
        device = Device(f"new {number}", host_id=f"host {number}", aud=ISSUER)
        (row,) = web.post(
            "/v1/messages", content=device.activate((line, 1)), headers={"Accept": "application/json"}
        ).json()
        assert row["outcome"] == "granted"


def test_a_long_outbox_of_one_that_this_process_has_not_heard_is_taken_whole(tmp_path):
    site = Site(tmp_path)
    try:
        line = site.sell("Harbour", ("smartdriver", 60)).lines[0]
        device = Device("away for long", aud=ISSUER)
        said = [device.activate((line, 1)), *(device.say("refresh") for _ in range(5 * KEY_AT_ONCE))]
        rows = TestClient(site.web).post(
            "/v1/messages", content="\n".join(said), headers={"Accept": "application/json"}
        )
        assert {row["outcome"] for row in rows.json()} == {"granted"}
        assert len(rows.json()) == len(said)
    finally:
        site.close()


def test_behind_a_proxy_it_is_the_client_that_counts():
    places = Places(connections_max=8, address_max=2, unbounded=("10.0.0.0/8",))
    told = [(b"x-forwarded-for", b"198.51.100.9, 192.0.2.7, 10.0.0.3")]
    assert places.client_of("10.0.0.1", told) == "192.0.2.7"
    assert places.client_of("192.0.2.200", told) == "192.0.2.200"  # no proxy of ours: it may say what it likes
    assert places.client_of("10.0.0.1", []) == "10.0.0.1"


@pytest.mark.slow
def test_a_real_process_slows_a_flood_down_and_answers_a_known_field_server_at_once(tmp_path):
    data = Data(tmp_path / "data").init()
    line = data.buy("smartdriver=9").lines[0]
    served = Served(data.path)
    try:
        device = Device("honest")
        assert served.post(device.activate((line, 1))).envelopes
        said = Device("one").say("refresh")
        answers = [served.post(said) for _ in range(KEY_AT_ONCE + 2)]
        assert all(answer.envelopes for answer in answers[:KEY_AT_ONCE])
        assert not answers[-1].envelopes
        assert served.post(device.say("refresh")).envelopes
    finally:
        served.stop()


def test_an_address_that_has_nothing_left_has_its_lines_not_even_taken_apart_but_for_those_of_known_field_servers():
    here = Strangers(clock=Clock())
    opener = here.visit("192.0.2.1").opener()
    flood = b"".join(f"{Device(f's{number}').say('refresh')}\n".encode() for number in range(ADDRESS_AT_ONCE // 10))
    for _ in range(12):
        here.visit("192.0.2.1").screen(list(parse_chunks([flood], opener)))
    honest = Device("honest")
    assert paused(parse_chunks([honest.say("refresh").encode()], opener)) == 1
    assert paused(parse_chunks([honest.say("refresh").encode()], here.visit("192.0.2.2").opener())) == 0
    found = list(parse_chunks([b"no envelope\n" * 50, flood], opener))
    assert {id(line.error) for line in found} == {id(found[0].error)}  # one for all: nothing was looked at


def test_of_one_long_file_no_more_lines_are_taken_apart_than_the_address_has_left():
    clock = Clock()
    here = Strangers(clock=clock)
    flood = b"".join(f"{Device(f's{number}').say('refresh')}\n".encode() for number in range(100))
    for _ in range(KEY_AT_ONCE + 1):
        here.visit("192.0.2.1").screen(list(parse_chunks([flood], here.visit("192.0.2.1").opener())))
    clock.now += 2 / strangers.ADDRESS_PER_SECOND  # two more, however many the file has
    assert paused(parse_chunks([flood], here.visit("192.0.2.1").opener())) == 98


def test_a_key_that_says_too_much_uses_up_what_its_address_has():
    here = Strangers(clock=Clock())
    said = lines(Device("one").say("refresh"))
    for _ in range(ADDRESS_AT_ONCE):
        here.visit("192.0.2.1").screen(said)
    assert paused(parse_chunks([Device("two").say("refresh").encode()], here.visit("192.0.2.1").opener())) == 1


def decided(bench, screened):
    """Lines that were read, and what became of them."""
    read = read_lines(screened, bench.signer.keyset)
    return read, results_of(read, bench.post(*(line.message.verified.compact for line in read if line.message)))


def left_of(here, address):
    return here._memory.addresses._left[address][0]


def test_what_two_exchanges_at_once_say_of_the_same_field_servers_is_given_back_to_both():
    bench, here = Bench(), Strangers(clock=Clock())
    line = bench.buy(60)
    said = [Device(f"n{number}", host_id=f"h{number}").activate((line, 1)) for number in range(50)]
    visits = [here.visit("192.0.2.1") for _ in range(6)]
    screened = [visit.screen(lines(*said))[0] for visit in visits]
    assert left_of(here, "192.0.2.1") == ADDRESS_AT_ONCE - 6 * 50
    for visit, chunk in zip(visits, screened, strict=True):
        read, results = decided(bench, chunk)
        visit.submit(read)
        visit.learn(results)
        visit.close()
    assert left_of(here, "192.0.2.1") == ADDRESS_AT_ONCE
    assert not here._memory.open
    assert not here._memory.waiting


def test_what_proved_nothing_or_was_given_up_is_not_given_back_and_is_open_no_longer():
    bench, here = Bench(), Strangers(clock=Clock())
    visit = here.visit("192.0.2.1")
    read, results = decided(
        bench, visit.screen(lines(*(Device(f"s{number}").say("refresh") for number in range(5))))[0]
    )
    visit.submit(read)
    visit.learn(results)
    visit.submit(read_lines(visit.screen(lines(Device("failed").say("refresh")))[0], bench.signer.keyset))
    visit.fail(read_lines(lines(Device("failed").say("refresh")), bench.signer.keyset))
    visit.screen(lines(Device("hung up").say("refresh")))
    visit.wait(1)
    visit.close()
    assert left_of(here, "192.0.2.1") == ADDRESS_AT_ONCE - 7
    assert not here._memory.open
    assert not here._memory.waiting


def test_how_many_may_wait_for_the_end_of_their_files_is_shared_by_an_address():
    here = Strangers(clock=Clock())
    first, second, other = here.visit("192.0.2.1"), here.visit("192.0.2.1"), here.visit("192.0.2.2")
    assert not first.wait(WAITING_MAX - 1)
    assert second.wait(1)
    assert not other.wait(1)
    first.close()
    assert not second.wait(2)


def test_a_long_file_waits_while_others_of_its_address_are_decided_and_never_for_one_that_is_silent():
    async def story():
        here, told = Strangers(clock=Clock()), []
        under_way, next_one = here.visit("192.0.2.1"), here.visit("192.0.2.1")
        keys = [Device(f"k{number}").say("refresh") for number in range(OPEN_MAX)]
        under_way.screen(lines(*keys))
        more = lines(Device("more").say("refresh"))

        async def come():
            await next_one.turn(more)
            told.append("its turn")

        waiting = asyncio.ensure_future(come())
        await asyncio.sleep(0)
        assert not told
        await here.visit("192.0.2.2").turn(more)  # another address has its own
        under_way.close()
        await waiting
        silent = here.visit("192.0.2.3")
        silent.screen(lines(*keys))
        silent.wait(OPEN_MAX)
        await here.visit("192.0.2.3").turn(more)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_key_pays_nothing_for_what_its_address_may_not_say():
    clock = Clock()
    here = Strangers(clock=clock)
    said = lines(Device("newcomer").say("refresh"))
    for _ in range(ADDRESS_AT_ONCE // 10):
        here.visit("192.0.2.1").screen(lines(*(Device(f"s{number}").say("refresh") for number in range(10))))
    for number in range(100):
        here.visit("192.0.2.1").screen(lines(Device(f"more {number}").say("refresh")))
    for _ in range(2 * KEY_AT_ONCE):
        assert paused(here.visit("192.0.2.1").screen(said)[0]) == 1
    assert paused(here.visit("192.0.2.2").screen(said)[0]) == 0


@pytest.mark.slow
def test_six_offices_behind_one_address_activate_at_once_and_a_newcomer_beside_them_waits_for_nobody(tmp_path):
    data = Data(tmp_path / "data").init()
    line = data.buy("smartdriver=100000").lines[0]
    served = Served(data.path)
    files = [[Device(f"{office} {number}").activate((line, 1)) for number in range(700)] for office in range(6)]
    same = [Device(f"same {number}").activate((line, 1)) for number in range(2000)]

    def post(said):
        return served.ask("POST", "/v1/messages", "\n".join(said), timeout=300, Accept="application/json").body

    try:
        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(post, said) for said in (*files, *[same] * 6)]
            beside = [post([Device(f"newcomer {number}").activate((line, 1))]) for number in range(30)]
            while not all(answer.done() for answer in answers):
                beside.append(post([Device(f"newcomer {len(beside)}").activate((line, 1))]))
            done = [answer.result() for answer in answers]
    finally:
        served.stop()
    assert [answer.count(b'"granted"') for answer in done] == [700] * 6 + [2000] * 6
    assert all(b'"granted"' in answer for answer in beside)
