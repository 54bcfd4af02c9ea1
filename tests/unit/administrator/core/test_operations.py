"""Operations on disk: what died is known, what runs is seen by everybody, what is wanted later gives up what was open."""

import threading

import pytest

from tallystick.administrator.core.goals import GoalResult, Refresh, Report, Return, Sync
from tallystick.administrator.core.operations import KEPT_MAX, Operations
from tallystick.administrator.memory.database import open_database
from tallystick.errors import Error

ROOF, CELLAR = "roof-id", "cellar-id"


@pytest.fixture
def twice(tmp_path):
    """Two processes on one data directory, as far as files can tell."""
    databases = [open_database(tmp_path) for _ in range(2)]
    yield [Operations(database) for database in databases]
    for database in databases:
        database.close()


def begin(operations, *device_ids, goal=None, run=False):
    number = operations.begin({one: goal or Return() for one in device_ids}, names={}, now=1)
    if not run:
        operations.do_not_run(number)  # as if its process had died
    return number


def report(device_id, result=GoalResult.DONE):
    return Report(device_id=device_id, name=device_id, result=result)


def test_an_operation_that_died_is_known_with_what_is_left(twice):
    ours, theirs = twice
    number = begin(ours, ROOF, CELLAR)
    ours.keep(number, report(ROOF))
    (found,) = theirs.unfinished()
    assert (found.number, found.kind, list(found.open_goals)) == (number, "return", [CELLAR])
    theirs.keep(number, report(CELLAR, GoalResult.INTERRUPTED))
    theirs.end(number, now=2)
    assert [one.number for one in ours.unfinished()] == [number], "stopped is not ended"
    ours.keep(number, report(CELLAR))
    ours.end(number, now=3)
    assert ours.unfinished() == []
    assert [(row.ended_at, row.open_count) for row in ours.newest()] == [(3, 0)]


def test_what_runs_is_seen_by_another_process_and_not_run_twice(twice):
    ours, theirs = twice
    number = begin(ours, ROOF, run=True)
    assert theirs.is_running(number), "from the moment at which it can be seen"
    assert theirs.unfinished() == []
    with ours.run(number):
        with pytest.raises(Error) as error, theirs.run(number):
            pass
        assert error.value.code == "too-busy"
        assert [row.is_running for row in theirs.newest()] == [True]
        theirs.ask_to_stop(number)
        assert ours.is_asked_to_stop(number)
    assert [one.number for one in theirs.unfinished()] == [number]
    with theirs.run(number):
        assert not theirs.is_asked_to_stop(number), "going on forgets that somebody said stop"
        assert ours.is_running(number)


def test_a_later_wish_gives_up_what_was_open_and_a_carrying_does_not(twice):
    ours, _ = twice
    first = begin(ours, ROOF, CELLAR)
    begin(ours, ROOF, goal=Sync())
    assert list(ours.operation(first).open_goals) == [ROOF, CELLAR]
    begin(ours, ROOF, goal=Refresh())
    assert list(ours.operation(first).open_goals) == [CELLAR]
    (visit, _) = ours.operation(first).visits
    assert (visit.report.result, "later" in visit.report.detail) == (GoalResult.LEFT, True)
    begin(ours, CELLAR)
    assert ours.operation(first).open_goals == {}
    assert first not in {one.number for one in ours.unfinished()}


def test_what_is_left_by_a_person_is_not_gone_on_with(twice):
    ours, _ = twice
    number = begin(ours, ROOF, CELLAR)
    ours.keep(number, report(ROOF))
    ours.leave(number, now=5)
    assert ours.unfinished() == []
    assert [visit.report.result for visit in ours.operation(number).visits] == [GoalResult.DONE, GoalResult.LEFT]


def test_the_oldest_that_ended_are_forgotten_and_none_that_is_open(twice):
    ours, _ = twice
    first = begin(ours, CELLAR)
    for _ in range(KEPT_MAX + 5):
        number = begin(ours, ROOF)
        ours.keep(number, report(ROOF))
        ours.end(number, now=2)
    assert ours.operation(first) is not None
    assert ours.operation(first + 1) is None


def test_many_threads_begin_and_run_at_once(twice):
    def work(operations, device_id):
        for _ in range(10):
            number = operations.begin({device_id: Return()}, names={}, now=1)
            with operations.run(number):
                operations.keep(number, report(device_id))
            operations.end(number, now=2)

    threads = [threading.Thread(target=work, args=(twice[at % 2], f"device {at}")) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert twice[0].unfinished() == []
