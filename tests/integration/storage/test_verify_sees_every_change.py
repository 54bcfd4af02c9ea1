"""``verify`` is not green once anything was changed behind the store: on both engines, column by column."""

import sqlite3

import pytest
from sqlalchemy import BigInteger, Boolean, LargeBinary, create_engine, event, select, text, update
from sqlalchemy.exc import IntegrityError

from support.activation import DAY, Device
from support.office import Office
from tallystick.activation.core import interventions
from tallystick.activation.core.permissions import EVERYTHING
from tallystick.activation.core.ports import Handling
from tallystick.activation.core.trail import Record
from tallystick.activation.storage import SqlTransaction, open_store, schema, verify_database
from tallystick.activation.storage.seals import SEALED, UNSEALED
from tallystick.activation.storage.tables import METADATA

RECORDS = [
    Record(at=1, actor=f"al {number}", role="support", account="acme", action="hold", target="x") for number in range(4)
]


@pytest.fixture
def told(url):
    """A database that has seen a little of everything; what changes it knows no foreign keys."""
    office = Office.at(url)
    line, idle = office.buy(9), office.buy(3, name="idle")
    assert office.where(idle) == (3, 0, 0, 0)
    devices = [Device("a"), Device("b")]
    for device in devices:
        (answer,) = office.post(device.activate((line, 2)))
        device.take(answer.reply[0])
    office.post(devices[0].activate((line, 9)))  # refused: there are not so many
    office.post(devices[1].copy().say("refresh", sequence=1))  # a fork: an incident
    looked = Handling(acknowledged_at=office.now, acknowledged_by="al", acknowledged_note="I ask them")
    office.store.transact(lambda tx: tx.incidents.save(1, looked))
    office.store.transact(lambda tx: [tx.trail.save(record) for record in RECORDS])
    office.store.transact(
        lambda tx: (
            interventions.declare_lost(
                tx, office.signer, devices[0].id, reason="burnt", by="al", policy=office.policy, now=office.now
            ),
            tx.trail.save(
                Record(
                    at=office.now,
                    actor="al",
                    role="support",
                    account="acme",
                    action="declare-lost",
                    target=devices[0].id,
                )
            ),
        )
    )
    while office.store.transact(lambda tx: tx.events.assign_positions(bytes)):
        pass
    office.audit()
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def without_foreign_keys(connection, _):
        if not isinstance(connection, sqlite3.Connection):
            connection.execute("SET session_replication_role = replica")
            connection.commit()

    yield office, engine
    engine.dispose()
    office.store.close()


def is_green_after(told, *statements):
    """Whether it is green with these changes, which are taken back."""
    office, engine = told
    with engine.connect() as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount, statement
        found = verify_database(SqlTransaction(connection, office.store.dialect, locks=False))
        connection.rollback()
        return found.is_green


def other(column, value):
    if isinstance(column.type, Boolean):
        return not value
    if isinstance(column.type, BigInteger):
        return (value or 0) + 1
    if isinstance(column.type, LargeBinary):
        return bytes(value) + b"x"
    return f"{value or ''}x"


CHAINED = {"trail": set(), "entries": set()}
SEEN = {**{name: UNSEALED.get(name, set()) for name in SEALED}, **CHAINED}


@pytest.mark.parametrize("name", sorted(SEEN))
def test_no_column_is_changed_unseen(told, name):
    table = METADATA.tables[name]
    keys = list(table.primary_key)
    rows = told[1].connect()
    some = rows.execute(select(table).order_by(*keys)).mappings().all()
    rows.close()
    assert some
    for column in table.c:
        if column.name in SEEN[name]:
            continue
        for row in (some[0], some[-1]):
            where = [key == row[key.name] for key in keys]
            change = update(table).where(*where).values({column.name: other(column, row[column.name])})
            try:
                assert not is_green_after(told, change), f"{name}.{column.name}"
            except IntegrityError:
                continue  # the database itself refuses it
    assert is_green_after(told)


ROWS = {
    "a record in the middle": "DELETE FROM trail WHERE number = 2",
    "the first record": "DELETE FROM trail WHERE number = 1",
    "the newest record": "DELETE FROM trail WHERE number = (SELECT max(number) FROM trail)",
    "every record": "DELETE FROM trail",
    "a declaration": "DELETE FROM declarations",
    "an event in the middle": "DELETE FROM events WHERE position = 2",
    "the newest event": "DELETE FROM events WHERE position = (SELECT max(position) FROM events)",
    "the seal of a line": "UPDATE lines SET seal = NULL",
    "the chain of a record": "UPDATE trail SET chain = NULL WHERE number = 2",
}


@pytest.mark.parametrize("what", sorted(ROWS))
def test_nothing_is_deleted_unseen(told, what):
    assert not is_green_after(told, text(ROWS[what]))


def test_the_tail_of_a_line_that_nobody_holds_is_not_cut_unseen(url):
    office = Office.at(url)
    line = office.buy(3)
    device = Device("a")
    (answer,) = office.post(device.activate((line, 2)))
    device.take(answer.reply[0])
    (answer,) = office.post(device.give_back())
    device.take(answer.reply[0])
    office.post(device.say("refresh"))
    assert office.where(line) == (3, 0, 0, 0)
    first = office.store.read(lambda tx: tx.find_entries(line.line_id))[0]
    cut = text("DELETE FROM entries WHERE number > 1")
    head = text("UPDATE lines SET entries = 1, chain = :chain").bindparams(chain=first.chain)
    engine = create_engine(url)
    assert not is_green_after((office, engine), cut, head)
    engine.dispose()
    office.audit()
    office.store.close()


def test_every_column_of_a_sealed_table_is_sealed_or_said_not_to_be():
    for name, columns in SEALED.items():
        assert {*columns, "seal", *UNSEALED.get(name, ())} == set(METADATA.tables[name].c.keys()), name


def test_what_was_there_before_seals_is_sealed_and_chained_by_the_migration(told, url):
    """As a database of the version before: without the columns, and with more than a page of each."""
    office, engine = told
    more = [
        {"at": 1, "actor": f"al {n}", "role": "x", "action": "hold", "target": "x", "detail": ""} for n in range(2100)
    ]
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE heads"))
        connection.execute(text("DROP TABLE incident_states"))  # which came with its seal
        for name in SEALED.keys() - {"incident_states"}:
            connection.execute(text(f"ALTER TABLE {name} DROP COLUMN seal"))
        connection.execute(text("ALTER TABLE trail DROP COLUMN chain"))
        # What came after seals.
        connection.execute(text("ALTER TABLE field_servers DROP COLUMN speaks"))
        connection.execute(text("DROP TABLE proofs"))
        connection.execute(text("DROP TABLE service_clock"))
        connection.execute(text("DROP INDEX ix_field_servers_waits_until"))
        connection.execute(text("ALTER TABLE field_servers DROP COLUMN waits_until"))
        connection.execute(text("CREATE INDEX ix_field_servers_lost_until ON field_servers (lost_until)"))
        for name in ("reference", "current_id"):
            connection.execute(text(f"DROP INDEX ix_entitlements_{name}"))
            connection.execute(text(f"ALTER TABLE entitlements DROP COLUMN {name}"))
        connection.execute(text("DROP INDEX ix_accounts_folded"))
        for name in ("accounts", "field_servers"):
            connection.execute(text(f"ALTER TABLE {name} DROP COLUMN folded"))
        connection.execute(text("DROP INDEX ix_field_servers_host_folded"))
        connection.execute(text("ALTER TABLE field_servers DROP COLUMN host_folded"))
        connection.execute(text("CREATE INDEX ix_field_servers_host_id ON field_servers (host_id)"))
        connection.execute(text("DELETE FROM trail WHERE number = 2"))  # a number that was never given
        start = 100
        for number, row in enumerate(more, start):
            row["number"] = number
        connection.execute(
            text(
                "INSERT INTO trail (number, at, actor, role, action, target, detail) "
                "VALUES (:number, :at, :actor, :role, :action, :target, :detail)"
            ),
            more,
        )
        connection.execute(text("UPDATE alembic_version SET version_num = '0007'"))
    engine.dispose()
    office.store.close()
    schema.migrate(office.store.engine, office.store.dialect)
    again = Office(open_store(url), now=office.now + DAY)
    again.audit()
    again.store.transact(lambda tx: tx.trail.save(RECORDS[0]))
    again.audit()
    assert again.store.read(lambda tx: tx.trail.find(EVERYTHING)[0].number) == start + 2100
    again.store.close()
