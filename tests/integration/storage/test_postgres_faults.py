"""PostgreSQL that is away, full, busy, of another kind than wanted: each has its answer, and nothing is half-done."""

import contextlib
import subprocess
import threading
import time

import pytest
from sqlalchemy import text

from support.activation import Device
from support.office import Office
from support.postgres import Cluster
from tallystick.activation.storage import DatabaseError, dialects, open_store

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(cluster):
    """The name of a new database."""
    return cluster.new_database().split("/")[3].split("?")[0]


@pytest.fixture
def office(cluster, database):
    found = Office.at(cluster.url(database))
    yield found
    found.store.close()


@pytest.fixture
def own_cluster():
    """A server that a test may break."""
    found = Cluster(shared_buffers="16MB")
    yield found
    found.remove()


def refused(work):
    with pytest.raises(DatabaseError) as fault:
        work()
    return fault.value.code


def test_connections_that_ended_while_nobody_used_them_are_not_noticed(cluster, database, office):
    line = office.buy(10)
    assert cluster.end_connections(database) >= 1
    office.post(Device("a").activate((line, 1)))
    assert cluster.end_connections(database) >= 1
    assert office.where(line) == (9, 1, 0, 0)


def test_a_connection_lost_in_the_middle_of_a_batch_leaves_nothing_and_the_batch_is_run_again(
    cluster, database, office
):
    line = office.buy(10)
    message = Device("a").activate((line, 3))
    attempts = []

    def work(tx):
        (answer,) = office.process(tx, message)
        attempts.append(answer)
        if len(attempts) == 1:
            cluster.end_connections(database)
        tx.find_lines()
        return answer

    assert office.store.transact(work) == attempts[1]
    assert office.where(line) == (7, 3, 0, 0)
    assert office.audit().entries == 2


def test_connections_that_are_lost_again_and_again_give_a_retryable_error(cluster, database, office):
    line = office.buy(10)
    message = Device("a").activate((line, 3))

    def work(tx):
        office.process(tx, message)
        cluster.end_connections(database)
        tx.find_lines()

    assert refused(lambda: office.store.transact(work)) == "database-unavailable"
    assert office.where(line) == (10, 0, 0, 0)
    office.post(message)
    assert office.where(line) == (7, 3, 0, 0)


def test_a_server_killed_in_the_middle_of_a_batch_keeps_what_was_answered_and_nothing_else(own_cluster):
    office = Office.at(own_cluster.new_database())
    line = office.buy(100)
    answered = [office.post(Device(f"{number}").activate((line, 1)))[0] for number in range(5)]
    batch = [Device(f"batch {number}").activate((line, 1)) for number in range(5)]

    def work(tx):
        office.process(tx, *batch)
        own_cluster.kill()
        tx.find_lines()

    assert refused(lambda: office.store.transact(work)) == "database-unavailable"
    assert refused(lambda: office.post(*batch)) == "database-unavailable"  # while it is down
    own_cluster.start()
    assert office.where(line) == (95, 5, 0, 0)
    assert office.audit().entries == 6
    again = [office.post(Device(f"{number}").activate((line, 1)))[0] for number in range(5)]
    assert again == answered
    office.post(*batch)
    assert office.where(line) == (90, 10, 0, 0)
    office.store.close()


def test_commits_that_are_cut_off_are_done_or_not_and_never_half(own_cluster):
    """Whoever did not get its answer asks again; whatever happened to the commit, it counts once."""
    office = Office.at(own_cluster.new_database())
    line = office.buy(1000)
    messages = [Device(f"{number}").activate((line, 1)) for number in range(60)]
    replies, codes = {}, set()
    stop = threading.Event()

    def nuisance():
        while not stop.wait(0.03):
            own_cluster.end_connections("tally1")

    thread = threading.Thread(target=nuisance)
    thread.start()
    deadline = time.monotonic() + 60
    try:
        for message in messages:
            while message not in replies:
                assert time.monotonic() < deadline
                try:
                    replies[message] = office.post(message)[0]
                except DatabaseError as error:
                    codes.add(error.code)
    finally:
        stop.set()
        thread.join()
    assert codes <= {"database-unavailable"}
    assert office.where(line) == (940, 60, 0, 0)
    assert [office.post(message)[0] for message in messages] == list(replies.values())
    assert office.audit().entries == 61
    office.store.close()


def test_a_database_that_is_not_there_is_said_to_be_unavailable(cluster, tmp_path):
    assert refused(lambda: open_store(cluster.url("nobody"))) == "database-unavailable"
    assert refused(lambda: open_store(f"postgresql+psycopg:///tally?host={tmp_path}")) == "database-unavailable"
    assert refused(lambda: open_store("postgresql+psycopg://127.0.0.1:1/tally")) == "database-unavailable"


def test_a_database_that_only_reads_is_retryable_and_works_again_by_itself(cluster, database, office):
    line = office.buy(10)
    message = Device("a").activate((line, 1))
    cluster.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on", database=database)
    cluster.end_connections(database)
    assert refused(lambda: office.post(message)) == "database-unavailable"
    cluster.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = off", database="postgres")
    office.post(message)
    assert office.where(line) == (9, 1, 0, 0)


def fill(directory):
    """A file that leaves no room beside it."""
    ballast = directory / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
            file.flush()
    return ballast


def test_a_full_disk_leaves_nothing_half_done_and_works_again_when_there_is_room(own_cluster, tmp_path):
    room = own_cluster.home / "room"
    room.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "tmpfs", str(room)]
    subprocess.run(mount, check=True, capture_output=True)  # as root, as CI is
    try:
        place = room / "space"
        place.mkdir()
        subprocess.run(["chown", "nobody", str(place)], check=True)
        place.chmod(0o700)
        own_cluster.sql(f"CREATE TABLESPACE small LOCATION '{place}'", database="postgres")
        own_cluster.sql("CREATE DATABASE tight TABLESPACE small", database="postgres")
        office = Office.at(own_cluster.url("tight"))
        line = office.buy(100_000)
        posted = 0
        ballast = fill(room)
        codes = set()
        for start in range(0, 1000, 100):
            batch = [Device(f"{number}").activate((line, 1)) for number in range(start, start + 100)]
            try:
                office.post(*batch)
                posted += 100
            except DatabaseError as error:
                codes.add(error.code)
                break
        assert codes == {"disk-full"}
        assert office.where(line)[1] == posted
        ballast.unlink()
        office.post(*batch)
        assert office.where(line)[1] == posted + 100
        office.audit()
        office.store.close()
        own_cluster.sql("DROP DATABASE tight", database="postgres")
        own_cluster.sql("DROP TABLESPACE small", database="postgres")
    finally:
        own_cluster.stop("immediate")
        subprocess.run(["umount", str(room)], check=True)
        own_cluster.start()


def test_more_connections_than_it_takes_are_refused_and_later_served(cluster, database, office):
    line = office.buy(10)
    cluster.sql("DROP ROLE IF EXISTS worker", database=database)
    cluster.sql("CREATE ROLE worker LOGIN CONNECTION LIMIT 1", database=database)
    cluster.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO worker", database=database)
    cluster.sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO worker", database=database)
    url = cluster.url(database).replace("tally@", "worker@")
    first, second = open_store(url), None
    try:
        with first.engine.connect():
            assert refused(lambda: open_store(url)) == "database-unavailable"
        first.close()
        second = Office(open_store(url))
        second.post(Device("a").activate((line, 1)))
    finally:
        first.close()
        if second is not None:
            second.store.close()
        cluster.sql("DROP OWNED BY worker", database=database)
        cluster.sql("DROP ROLE worker", database=database)


def test_rows_that_somebody_keeps_locked_are_not_waited_for_for_ever(cluster, database, monkeypatch):
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.3)
    office = Office.at(cluster.url(database))
    line = office.buy(10)
    message = Device("a").activate((line, 1))
    other = Office(open_store(cluster.url(database)))
    with other.store.engine.begin() as connection:
        connection.execute(text("SELECT * FROM lines FOR UPDATE"))
        assert refused(lambda: office.post(message)) == "database-unavailable"
    office.post(message)
    assert office.where(line) == (9, 1, 0, 0)
    for one in (office, other):
        one.store.close()


def test_a_statement_that_takes_too_long_is_ended(cluster, database, monkeypatch):
    monkeypatch.setattr(dialects, "STATEMENT_SECONDS", 0.3)
    office = Office.at(cluster.url(database))
    assert refused(lambda: office.store.read(lambda tx: tx._connection.execute(text("SELECT pg_sleep(5)")))) == (
        "database-unavailable"
    )
    office.audit()
    office.store.close()


@pytest.fixture
def replicated(own_cluster):
    """A server that waits for a standby which does not exist, and an office on it."""
    office = Office.at(own_cluster.new_database())
    yield own_cluster, office
    office.store.close()


def wait_for_standby(cluster, name):
    cluster.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'", database="postgres")
    cluster.sql("SELECT pg_reload_conf()", database="postgres")
    wanted = [(name,)]
    until(lambda: cluster.sql("SHOW synchronous_standby_names", database="postgres") == wanted)


def until(condition):
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def commits_that_wait(cluster):
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    return [pid for (pid,) in cluster.sql(waiting, database="postgres")]


def begun(work, results):
    """Work in a thread, and what came of it."""

    def run():
        try:
            results.append(work())
        except DatabaseError as error:
            results.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("ends", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_reply_is_not_let_out_before_the_standby_has_it_whoever_ends_the_wait_and_whoever_repeats(replicated, ends):
    """PostgreSQL tells a commit whose wait was cancelled as done: if the server is lost then, so is the commit."""
    cluster, office = replicated
    line = office.buy(10)
    device = Device("a")
    office.post(device.activate((line, 1)))
    message, results = device.relinquish(), []
    wait_for_standby(cluster, "nobody")
    first = begun(lambda: office.post(message), results)
    (pid,) = until(lambda: commits_that_wait(cluster))
    cluster.sql(f"SELECT {ends}({pid})", database="postgres")
    first.join()
    assert results == ["database-unavailable"]
    assert office.where(line) == (10, 0, 0, 0)  # it was done here, and this server alone knows
    second = begun(lambda: office.post(message), results)
    until(lambda: commits_that_wait(cluster))
    time.sleep(0.3)
    assert len(results) == 1  # the stored reply is not let out either
    wait_for_standby(cluster, "")
    second.join()
    assert results[1] == office.post(message)
    assert office.where(line) == (10, 0, 0, 0)


def test_a_warning_that_is_not_about_the_commit_costs_nothing(cluster, database, office):
    def work(tx):
        tx.connection.execute(text("DO $$ BEGIN RAISE WARNING 'something else'; END $$"))
        return 1

    assert office.store.transact(work) == 1


def test_a_fail_over_costs_each_process_one_second_try_however_many_connections_it_kept(cluster, database, office):
    line = office.buy(10)
    held = [office.store.engine.connect() for _ in range(6)]
    for one in held:
        one.exec_driver_sql("SELECT 1")
        one.close()
    cluster.end_connections(database)
    for number in range(4):
        office.post(Device(f"{number}").activate((line, 1)))  # none of them meets a second dead connection
    assert office.where(line) == (6, 4, 0, 0)


def test_a_standby_is_not_asked_anything(own_cluster):
    """Where a connection leads to one, for the moment of a fail-over, it is refused before it reads from the past."""
    office = Office.at(own_cluster.new_database())
    line = office.buy(10)
    own_cluster.stop()
    (own_cluster.data / "standby.signal").touch()
    own_cluster.start()
    assert own_cluster.sql("SELECT pg_is_in_recovery()", database="postgres") == [(True,)]
    assert refused(lambda: office.where(line)) == "database-unavailable"
    assert refused(lambda: office.post(Device("a").activate((line, 1)))) == "database-unavailable"
    own_cluster.sql("SELECT pg_promote()", database="postgres")
    office.post(Device("a").activate((line, 1)))
    assert office.where(line) == (9, 1, 0, 0)
    office.store.close()
