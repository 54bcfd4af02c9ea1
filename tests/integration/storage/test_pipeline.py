"""Statements of PostgreSQL in one round trip: what a fault in the midst of them leaves behind."""

import psycopg
import pytest

from support.activation import Device
from support.office import Office
from tallystick.activation.storage import batches_postgres, pipeline
from tallystick.activation.storage.pipeline import Statement

pytestmark = pytest.mark.postgres


@pytest.fixture
def office(cluster):
    found = Office.at(cluster.new_database())
    yield found
    found.store.close()


@pytest.fixture
def connection(office):
    with office.store.engine.connect() as found:
        yield found


def rows(connection, text, *parameters):
    return pipeline.run(connection, [Statement(text, parameters)])[0]


def test_statements_answer_in_order_each_with_its_own_rows(connection):
    statements = [
        Statement(b"SELECT $1::text AS one", [b"x"]),
        Statement(b"SELECT n::bigint AS n, n > 1 AS more FROM generate_series(1, 2) n", []),
        Statement(b"SELECT NULL::text AS nothing WHERE false", []),
        Statement(b"SELECT $1::text AS one", [None]),
    ]
    for _ in range(2):  # the second time they are prepared
        first, second, third, fourth = pipeline.run(connection, statements)
        assert [row.one for row in first] == ["x"]
        assert [(row.n, row.more) for row in second] == [(1, False), (2, True)]
        assert third == []
        assert [row.one for row in fourth] == [None]


def test_a_refused_statement_is_told_and_the_connection_goes_on(connection):
    rows(connection, b"CREATE TEMPORARY TABLE kept (n bigint PRIMARY KEY)")
    connection.connection.commit()
    insert = Statement(b"INSERT INTO kept VALUES ($1::bigint)", [b"1"])
    with pytest.raises(psycopg.errors.UniqueViolation):
        pipeline.run(connection, [insert, insert, Statement(b"SELECT 1 AS behind", [])], commits=True)
    connection.connection.rollback()
    assert pipeline.COMMITTED not in connection.info
    assert rows(connection, b"SELECT n FROM kept") == []  # the commit behind it was not done
    assert rows(connection, b"SELECT 1 AS behind")[0].behind == 1  # what was not reached is prepared now


def test_commits_means_that_others_see_it(connection, office):
    rows(connection, b"CREATE TABLE seen (n bigint)")
    pipeline.run(connection, [Statement(b"INSERT INTO seen VALUES (7)", [])], commits=True)
    with office.store.engine.connect() as other:
        assert rows(other, b"SELECT n FROM seen")[0].n == 7


def test_much_goes_there_and_back_without_a_standstill(connection):
    text = b"x" * 4_000_000
    found = pipeline.run(connection, [Statement(b"SELECT repeat($1::text, 2) AS twice", [text])] * 4)
    assert [len(row.twice) for part in found for row in part] == [8_000_000] * 4


def test_a_nul_is_refused_and_cuts_nothing_off(connection):
    with pytest.raises(psycopg.DataError):
        rows(connection, b"SELECT $1::text AS cut", b"before\0behind")


def test_a_server_that_was_made_to_forget_is_told_again(office):
    line = office.buy(10)
    office.post(Device("a").activate((line, 1)))
    connections = [office.store.engine.connect() for _ in range(3)]
    for each in connections:
        each.exec_driver_sql("DEALLOCATE ALL")
        each.commit()
        each.close()
    office.post(Device("b").activate((line, 1)))
    assert office.where(line) == (8, 2, 0, 0)


def test_few_rows_and_many_are_written_alike(office):
    line = office.buy(100)
    for count in (1, 2, 20):
        messages = [Device(f"{count}-{number}").activate((line, 1)) for number in range(count)]
        office.post(*messages)
    assert batches_postgres.FEW_ROWS < 20 * 7  # both ways were gone
    assert office.where(line) == (77, 23, 0, 0)
    assert office.audit().is_green
