"""What a person decides is decided on what is true when it is done, not on what was true when the page was made.

A first unit of work holds the field server; the person's verb comes meanwhile and waits; then the first one changes
what the verb depends on, and commits.
"""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tallystick.activation.core import interventions, issuing, reading
from tallystick.activation.core.permissions import Caller, Role, Scope
from tallystick.activation.core.ports import Policy, Status
from tallystick.activation.server import instance
from tallystick.activation.services import catalog as catalog_service
from tallystick.activation.services import documents, field_servers
from tallystick.activation.storage import open_store
from tallystick.domain.catalog import Catalog
from tallystick.errors import Error
from tallystick.protocol import envelope

pytestmark = pytest.mark.slow

WAITS_SECONDS = 0.4  # for a verb to come as far as it comes
CUSTOMER = Caller(name="cy", role=Role.CUSTOMER_ADMINISTRATOR, scope=Scope(account="Harbour"), subject="cy")


def meanwhile(site, verb, change, *, devices=(), name=None):
    """What ``verb`` comes to when ``change`` was under way before it, and commits while it waits."""
    other = open_store(instance.database_url(site.activation.data, site.database))
    is_held = threading.Event()

    def first(transaction):
        if name:
            transaction.events.lock(name)
        transaction.load_field_servers_for_update([device.id for device in devices])
        is_held.set()
        threading.Event().wait(WAITS_SECONDS)
        change(transaction)

    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(other.transact, first)
        assert is_held.wait(10)
        try:
            return verb()
        finally:
            under_way.result(10)
            other.close()


def message(site, compact):
    """A change: this message is taken."""
    signer = site.activation.signer

    def change(transaction):
        read = reading.read_message(envelope.open_envelope(compact.encode()), signer.keyset)
        (answer,) = issuing.process([read], transaction, signer=signer, policy=Policy(), now=site.now)
        assert answer.outcome in {"granted", "credited"}, answer

    return change


def status(site, device, to):
    def change(transaction):
        if to is Status.LOST:
            interventions.declare_lost(
                transaction, site.office.signer, device.id, reason="burnt", by="al", policy=Policy(), now=site.now
            )
        elif to is Status.RETIRED:
            interventions.retire(transaction, site.office.signer, device.id, by="al", now=site.now)
        else:
            interventions.release_hold(transaction, site.office.signer, device.id, by="al", now=site.now)

    return change


def server(site, device):
    return site.activation.read(lambda tx: tx.load_field_servers_for_update([device.id]))[device.id]


def empty(site, line):
    """A field server that gave back what it held, and has proven it."""
    device = site.activated(site.device("plant"), (line, 1))
    (answer,) = site.post(device.give_back())
    device.take(answer["reply"].splitlines()[0])
    site.post(device.say("refresh"))
    return device


@pytest.fixture
def line(site):
    return site.sell("Harbour", ("smartdriver", 10)).lines[0]


def test_what_holds_something_by_now_is_not_retired(site, line):
    device = empty(site, line)
    with pytest.raises(Error) as refused:
        meanwhile(
            site,
            lambda: field_servers.retire(site.office, site.root, device.id),
            message(site, device.activate((line, 3))),
            devices=[device],
        )
    assert refused.value.code == "holds-licenses"
    assert server(site, device).status is Status.ACTIVE
    assert site.line(line.line_id).balances.held == 3


def test_a_customer_raises_nothing_that_was_lowered_meanwhile(site, line):
    device = site.activated(site.device("plant"), (line, 3))
    with pytest.raises(Error) as refused:
        meanwhile(
            site,
            lambda: field_servers.start_change(site.office, CUSTOMER, device.id, [(line.line_id, 3)], once=None),
            message(site, device.give_back((line, 1))),
            devices=[device],
        )
    assert refused.value.code == "not-allowed"
    assert server(site, device).intended == {line.line_id: 1}


def test_what_replaces_another_one_gets_what_that_should_hold_by_now(site, line):
    old = site.activated(site.device("old"), (line, 3))
    new = site.activated(site.device("new"), (line, 1))
    meanwhile(
        site,
        lambda: field_servers.replace_field_server(
            site.office, site.root, old.id, by_device=new.id, reason="burnt", once=None
        ),
        message(site, old.give_back((line, 2))),
        devices=[old, new],
    )
    assert server(site, new).intended == {line.line_id: 2}


DECISIONS = {
    "declare_lost": lambda site, device: field_servers.declare_lost(site.office, site.root, device.id, reason="burnt"),
    "hold": lambda site, device: field_servers.hold(site.office, site.root, device.id, reason="two of it"),
    "release": lambda site, device: field_servers.release(site.office, site.root, device.id),
    "retire": lambda site, device: field_servers.retire(site.office, site.root, device.id),
    "replace_field_server": lambda site, device: field_servers.replace_field_server(
        site.office, site.root, device.id, by_device=site.device("spare").id, reason="burnt", once=None
    ),
    "start_return": lambda site, device: field_servers.start_return(site.office, site.root, device.id, once=None),
    "start_change": lambda site, device: field_servers.start_change(site.office, site.root, device.id, [], once=None),
}


@pytest.mark.parametrize("verb", sorted(DECISIONS))
def test_nobody_decides_about_a_field_server_that_is_no_longer_what_it_was(site, line, verb):
    device = empty(site, line)
    site.activated(site.device("spare"), (line, 1))
    if verb == "release":
        field_servers.hold(site.office, site.root, device.id, reason="two of it")
    # One that was declared lost meanwhile may still be replaced; one that is retired by now may not.
    wanted = {"release": Status.ACTIVE, "replace_field_server": Status.RETIRED}.get(verb, Status.LOST)
    change = status(site, device, wanted)
    with pytest.raises(Error) as refused:
        meanwhile(site, lambda: DECISIONS[verb](site, device), change, devices=[device])
    assert refused.value.code in {"lost-already", "not-in-service", "not-on-hold"}
    assert server(site, device).status is wanted


def test_every_verb_about_a_field_server_is_decided_here():
    verbs = {
        name
        for name, function in inspect.getmembers(field_servers, inspect.isfunction)
        if function.__module__ == field_servers.__name__
        and not name.startswith("_")
        and "office.read(" not in inspect.getsource(function)
    }
    assert verbs == set(DECISIONS)


def test_a_catalog_that_was_changed_meanwhile_is_not_replaced(site):
    before = catalog_service.load_catalog(site.office, site.root)
    catalog = site.activation.read(lambda tx: tx.load_catalog())
    other = Catalog(kinds=(*catalog.kinds, "New"), products=catalog.products)
    with pytest.raises(Error) as refused:
        meanwhile(
            site,
            lambda: catalog_service.save_catalog(site.office, site.root, catalog, version=before.version),
            lambda transaction: transaction.save_catalog(other),
            name="catalog",
        )
    assert refused.value.code == "changed-meanwhile"
    assert documents.catalog_document(other).version == catalog_service.load_catalog(site.office, site.root).version
