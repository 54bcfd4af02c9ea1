"""The stream of events: written with what it tells, placed in the order of commits, lost never."""

from __future__ import annotations

import itertools
import re
import threading
from pathlib import Path

import pytest

from support.activation import DAY, START, Device, seeded, serve_until
from tallystick.activation.core import entitlements, interventions, issuing
from tallystick.activation.core.ports import EventKind
from tallystick.activation.outbound import safe_post, webhooks
from tallystick.activation.outbound.safe_post import Answered
from tallystick.activation.outbound.webhooks import Dispatcher
from tallystick.activation.settings import WebhookSettings
from tallystick.activation.storage import open_store
from tallystick.errors import Error

COUNTER = itertools.count()


def random_bytes(count):
    return seeded(f"random {next(COUNTER)}", count)


def dispatcher(office, **settings):
    return Dispatcher(
        store=office.store,
        settings=WebhookSettings(**settings),
        kept_days=90,
        clock=lambda: office.now,
        random_bytes=random_bytes,
    )


def stream(office, after=0, **options):
    dispatcher(office).place_all()
    return office.store.read(lambda tx: tx.events.find(after=after, limit=1000, **options))


def kinds(office, after=0):
    return [event.kind for event in stream(office, after)]


def test_an_activation_and_its_return_are_told_with_their_numbers(office):
    line, device = office.buy(5), Device("a")
    grant = office.post(device.activate((line, 3)))[0].reply[0]
    device.take(grant)
    grant = office.post(device.give_back((line, 1)))[0].reply[0]
    device.take(grant)
    office.post(device.say("confirm"))
    found = stream(office)
    assert [event.kind for event in found] == [
        "field_server.enrolled",
        "activation.granted",
        "return.opened",
        "return.credited",
    ]
    assert [event.position for event in found] == [1, 2, 3, 4]
    assert len({event.event_id for event in found}) == 4
    lines = [event.data["lines"] for event in found[1:]]
    assert [row[0]["quantity"] for row in lines] == [3, 2, 2]
    assert lines[0][0] == {"line": line.line_id, "product": "smartdriver", "quantity": 3}
    assert {event.account for event in found} == {"acme"}


def test_a_message_again_is_no_event_and_a_refusal_is_one(office):
    line, device = office.buy(1), Device("a")
    asked = device.activate((line, 2))
    office.post(asked)
    office.post(asked, asked)
    found = stream(office)
    assert [event.kind for event in found] == ["field_server.enrolled", "message.refused"]
    assert found[-1].data["code"] == "not-enough"


def test_what_people_do_is_told(office):
    made = office.store.transact(
        lambda tx: entitlements.create_entitlement(
            tx,
            office.signer,
            account="acme",
            products=[("smartdriver", 4)],
            expires_at=None,
            random_bytes=random_bytes,
            by="ann",
            now=START,
        )
    )
    line, device = made.lines[0], Device("a")
    office.post(device.activate((line, 2)))
    last = len(stream(office))

    def declare(tx):
        return interventions.declare_lost(
            tx, office.signer, device.id, reason="burnt", by="ann", policy=office.policy, now=office.now
        )

    office.store.transact(declare)
    office.now += 20 * DAY
    office.store.transact(lambda tx: serve_until(tx, office.signer, office.now))
    office.store.transact(lambda tx: interventions.settle_quarantines(tx, office.signer, now=office.now))
    change = entitlements.LineChange(quantity=9)
    office.store.transact(
        lambda tx: entitlements.change_line(tx, office.signer, line.line_id, change, by="ann", now=office.now)
    )
    office.store.transact(lambda tx: interventions.announce_restore(tx, office.signer, now=office.now))
    office.store.transact(lambda tx: interventions.lift_freeze(tx, office.signer, None, now=office.now))
    assert kinds(office)[0] == "entitlement.created"
    assert made.entitlement_id not in str(stream(office)[0].data)
    assert kinds(office, last) == [
        "field_server.declared_lost",
        "field_server.lost_settled",
        "return.credited",
        "line.changed",
        "activation_server.restored",
        "lines.frozen",
        "lines.freeze_lifted",
    ]


def test_a_lost_one_that_is_back_and_a_fork_and_its_release_are_told(office):
    line, device = office.buy(4), Device("a")
    device.take(office.post(device.activate((line, 1)))[0].reply[0])
    office.store.transact(
        lambda tx: interventions.declare_lost(
            tx, office.signer, device.id, reason="burnt", by="ann", policy=office.policy, now=office.now
        )
    )
    device.take(office.post(device.say("refresh"))[0].reply[0])
    copy = device.copy()
    office.post(device.say("refresh"))
    last = len(stream(office))
    office.post(copy.say("refresh"))
    office.store.transact(lambda tx: interventions.release_hold(tx, office.signer, device.id, by="ann", now=office.now))
    assert {"field_server.lost_undone", "incident.noted"} <= set(kinds(office))
    assert kinds(office, last) == [
        "field_server.held",
        "message.refused",
        "incident.noted",
        "field_server.released",
    ]


def test_a_unit_of_work_that_fails_tells_nothing(office):
    line, device = office.buy(4), Device("a")

    def work(tx):
        office.process(tx, device.activate((line, 1)))
        raise Error("usage", expected="no fault", seen="one")

    with pytest.raises(Error):
        office.store.transact(work)
    assert kinds(office) == []


def test_places_are_in_the_order_of_commits_and_a_reader_misses_nothing(office, url):
    """Writers commit in any order while a reader follows by its cursor."""
    line = office.buy(1000)
    seen, done = [], threading.Event()

    def write(number):
        store = open_store(url)
        for turn in range(8):
            device = Device(f"w{number}-{turn}")
            message = office.read_message(device.activate((line, 1)))
            store.transact(
                lambda tx, message=message: issuing.process(
                    [message], tx, signer=office.signer, policy=office.policy, now=office.now
                )
            )
        store.close()

    def follow():
        after = 0
        while True:
            is_last = done.is_set()
            found = stream(office, after)
            seen.extend(found)
            after = found[-1].position if found else after
            if is_last and not found:
                return

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    reader = threading.Thread(target=follow)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert [event.position for event in seen] == list(range(1, len(seen) + 1))
    assert sum(event.kind == "activation.granted" for event in seen) == 24


class Receiver:
    """Stands for ``safe_post.post``."""

    def __init__(self, monkeypatch):
        self.got = []
        self.status = 200
        monkeypatch.setattr(safe_post, "post", self.post)

    def post(self, url, *, body, headers, allowed, timeout_seconds):
        self.got.append((url, headers["webhook-id"], body))
        return Answered(status=self.status, detail="")


def add(office, url="https://example.com/hook", **options):
    return office.store.transact(
        lambda tx: webhooks.add(
            tx,
            url=url,
            account=options.get("account"),
            kinds=options.get("kinds", ()),
            after=options.get("after"),
            allowed=(),
            by="ann",
            random_bytes=random_bytes,
            now=office.now,
        )
    )


def test_every_endpoint_gets_what_it_wants_once_when_all_goes_well(office, monkeypatch):
    receiver = Receiver(monkeypatch)
    everything, some = add(office), add(office, "https://example.org/", kinds=["activation.granted"])
    others = add(office, "https://example.net/", account="other")
    line, device = office.buy(5), Device("a")
    office.post(device.activate((line, 3)))
    for _ in range(3):
        dispatcher(office).run_once()
    assert sorted(url for url, _, _ in receiver.got) == [everything.url, everything.url, some.url]
    assert others.url not in str(receiver.got)
    found = office.store.read(lambda tx: tx.events.deliveries())
    assert {delivery.state for delivery, _ in found} == {"delivered"}


def try_again(office, webhook):
    return office.store.transact(
        lambda tx: tx.events.retry(webhook_id=webhook.webhook_id, positions=None, now=office.now)
    )


def test_what_is_not_taken_is_tried_again_later_until_it_is_given_up_and_can_be_had_again(office, monkeypatch):
    receiver = Receiver(monkeypatch)
    receiver.status = 500
    webhook = add(office)
    line, device = office.buy(5), Device("a")
    device.take(office.post(device.activate((line, 3)))[0].reply[0])
    dispatch_ = dispatcher(office, give_up_hours=2)
    dispatch_.run_once()
    assert len(receiver.got) == 2
    dispatch_.run_once()
    assert len(receiver.got) == 2  # not before its time
    pauses = []
    for _ in range(20):
        waiting = office.store.read(lambda tx: tx.events.deliveries(state="waiting"))
        if not waiting:
            break
        due = min(delivery.next_at for delivery, _ in waiting)
        pauses.append(due - office.now)
        office.now = due
        dispatch_.run_once()
    given_up = office.store.read(lambda tx: tx.events.deliveries(state="given-up"))
    assert len(given_up) == 2
    assert max(pauses) > 1000
    receiver.status = 204
    assert try_again(office, webhook) == 2
    dispatch_.run_once()
    assert {delivery.state for delivery, _ in office.store.read(lambda tx: tx.events.deliveries())} == {"delivered"}
    before = len(receiver.got)
    office.store.transact(lambda tx: tx.events.set_webhook(webhook.webhook_id, position=1))
    dispatch_.run_once()
    assert len(receiver.got) == before + 1
    ids = [event_id for _, event_id, _ in receiver.got]
    assert len(set(ids)) == 2  # the same event has the same id, however often it is sent


def test_a_process_that_dies_while_it_sends_sends_again(office, monkeypatch):
    receiver = Receiver(monkeypatch)
    webhook = add(office)
    line, device = office.buy(5), Device("a")
    office.post(device.activate((line, 3)))
    dispatch_ = dispatcher(office)
    dispatch_.place_all()
    office.store.transact(dispatch_._fan_out)
    claimed = office.store.transact(
        lambda tx: tx.events.claim([webhook.webhook_id], now=office.now, until=office.now + 60, limit=16)
    )  # and dies
    assert len(claimed[webhook.webhook_id]) == 2
    dispatch_.run_once()
    assert receiver.got == []
    office.now += 3600
    dispatch_.run_once()
    assert len(receiver.got) == 2


def test_an_endpoint_that_is_gone_is_stopped_until_a_person_says_otherwise(office, monkeypatch):
    receiver = Receiver(monkeypatch)
    receiver.status = 410
    webhook = add(office)
    line, device = office.buy(5), Device("a")
    office.post(device.activate((line, 3)))
    dispatcher(office).run_once()
    (found,) = office.store.read(lambda tx: tx.events.webhooks())
    assert found.stopped_why == "it answered 410 Gone"
    office.store.transact(lambda tx: tx.events.set_webhook(webhook.webhook_id, stopped_at=None, stopped_why=None))
    try_again(office, webhook)
    assert office.store.read(lambda tx: tx.events.webhooks())[0].stopped_at is None


def test_old_events_are_forgotten_and_places_are_never_given_twice(office):
    line, device = office.buy(5), Device("a")
    device.take(office.post(device.activate((line, 3)))[0].reply[0])
    assert len(stream(office)) == 2
    office.now += 91 * DAY
    assert dispatcher(office).prune() == 2
    office.post(device.give_back((line, 1)))
    assert [event.position for event in stream(office)] == [3]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"url": "ftp://example.com"}, "webhook-target"),
        ({"url": "http://example.com"}, "webhook-target"),
        ({"url": "https://user:pass@example.com"}, "webhook-target"),
        ({"url": "https://127.0.0.1/"}, "webhook-target"),
        ({"kinds": ["nonsense"]}, "event-kind-unknown"),
        ({"after": 99}, "cursor-wrong"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(office, options, code):
    with pytest.raises(Error) as refused:
        add(office, **options)
    assert refused.value.code == code


def test_places_are_given_in_small_units_so_that_messages_do_not_wait_long(office):
    line = office.buy(3000)
    for start in range(0, 1500, 300):
        office.post(*(Device(f"d{number}").activate((line, 1)) for number in range(start, start + 300)))
    counts = []
    while count := office.store.transact(lambda tx: tx.events.assign_positions(random_bytes)):
        counts.append(count)
    assert counts == [1200, 1200, 600]
    assert office.store.read(lambda tx: tx.events.last_position()) == 3000


OF_PEOPLE = {"sign_in", "secret", "token", "credential"}
OF_SERVICES = {"incident.acknowledged", "incident.resolved"}  # tests/integration/management/test_incidents.py has each


def test_every_kind_of_the_page_is_sent_and_every_kind_that_is_sent_is_on_the_page(office):
    """One world in which everything happens, compared with the table of docs/operations/webhooks.md."""
    made = office.store.transact(
        lambda tx: entitlements.create_entitlement(
            tx,
            office.signer,
            account="acme",
            products=[("smartdriver", 9)],
            expires_at=None,
            random_bytes=random_bytes,
            by="ann",
            now=START,
        )
    )
    line = made.lines[0]

    def act(work, *arguments, **named):
        return office.store.transact(lambda tx: work(tx, office.signer, *arguments, **named, now=office.now))

    def declare(device):
        act(interventions.declare_lost, device.id, reason="burnt", by="ann", policy=office.policy)

    device, dead = Device("a"), Device("b")
    for one in (device, dead):
        one.take(office.post(one.activate((line, 2)))[0].reply[0])
    device.take(office.post(device.give_back((line, 1)))[0].reply[0])
    office.post(device.say("confirm"))
    office.post(device.activate((line, 99)))
    declare(device)
    device.take(office.post(device.say("refresh"))[0].reply[0])
    copy = device.copy()
    office.post(device.say("refresh"))
    office.post(copy.say("refresh"))
    act(interventions.release_hold, device.id, by="ann")
    declare(dead)
    office.now += 20 * DAY
    office.store.transact(lambda tx: serve_until(tx, office.signer, office.now))
    act(interventions.settle_quarantines)
    act(entitlements.change_line, line.line_id, entitlements.LineChange(quantity=12), by="ann")
    act(interventions.announce_restore)
    act(interventions.lift_freeze, None)
    page = (Path(__file__).parents[3] / "docs" / "operations" / "webhooks.md").read_text("utf-8")
    table = page.split("## Kinds")[1]
    listed = {kind for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for kind in re.findall(r"`(.*?)`", row)}
    assert listed == {kind.value for kind in EventKind}
    # What people do to get in and to their secrets is sent by the services: tests/attacks has each of those.
    assert set(kinds(office)) == {kind for kind in listed - OF_SERVICES if kind.partition(".")[0] not in OF_PEOPLE}
