"""Whoever comes at the same time: one effect, the same bytes, no deadlock that anybody sees."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from support.activation import Device
from support.office import Office
from tallystick.activation.core.ports import MessageOutcome
from tallystick.activation.storage import open_store

CROWD = 6


def at_once(office, url, *works):
    """Run each work in a thread with a store of its own, as several processes have."""
    barrier = threading.Barrier(len(works))

    def run(work):
        own = Office(open_store(url), now=office.now)
        try:
            barrier.wait(timeout=120)
            return work(own)
        finally:
            own.store.close()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def race_processes(tmp_path, url, *batches_of_each):
    """The same with real processes; the replies of each."""
    racers = []
    for number, batches in enumerate(batches_of_each):
        file = tmp_path / f"racer-{number}"
        file.write_text("".join(" ".join(batch) + "\n" for batch in batches), "ascii")
        racer = subprocess.Popen(
            [sys.executable, "-m", "support.racer", url, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        racers.append(racer)
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=300)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * len(racers)
    return [[json.loads(line) for line in text_.splitlines()] for text_ in said]


def test_the_same_message_at_once_has_one_effect_and_one_reply(office, url):
    line = office.buy(10)
    device = Device("a")
    office.post(device.activate((line, 1)))
    message = device.activate((line, 3))
    answers = at_once(office, url, *[lambda own: own.post(message)] * CROWD)
    assert len({answer.reply for (answer,) in answers}) == 1
    assert office.where(line) == (7, 3, 0, 0)
    assert office.audit().entries == 3


def test_the_first_contact_at_once_enrols_once(office, url):
    line = office.buy(10)
    message = Device("a").activate((line, 3))
    answers = at_once(office, url, *[lambda own: own.post(message)] * CROWD)
    assert len({answer.reply for (answer,) in answers}) == 1
    assert office.where(line) == (7, 3, 0, 0)


def test_the_last_unit_is_granted_once(office, url):
    line = office.buy(1)
    devices = [Device(f"{number}") for number in range(CROWD)]
    works = [lambda own, device=device: own.post(device.activate((line, 1))) for device in devices]
    outcomes = sorted(answer.outcome for (answer,) in at_once(office, url, *works))
    assert outcomes == [MessageOutcome.GRANTED] + [MessageOutcome.REFUSED] * (CROWD - 1)
    assert office.where(line) == (0, 1, 0, 0)
    office.audit()


def test_a_host_id_at_once_on_two_field_servers_enrols_one(office, url):
    line = office.buy(10)
    devices = [Device(f"{number}", host_id="one machine") for number in range(CROWD)]
    works = [lambda own, device=device: own.post(device.activate((line, 1))) for device in devices]
    outcomes = sorted(answer.outcome for (answer,) in at_once(office, url, *works))
    assert outcomes == [MessageOutcome.GRANTED] + [MessageOutcome.REFUSED] * (CROWD - 1)


def test_a_sequence_at_once_in_two_messages_is_a_fork(office, url):
    line = office.buy(10)
    device = Device("a")
    office.post(device.activate((line, 1)))
    copies = [device.copy(f"copy {number}") for number in range(2)]
    works = [lambda own, copy=copy: own.post(copy.activate((line, 2))) for copy in copies]
    codes = sorted(str(answer.code) for (answer,) in at_once(office, url, *works))
    assert codes == ["None", "fork"]


def test_batches_with_the_same_rows_in_other_orders_all_go_through(office, url):
    lines = [office.buy(1000, name=f"line {number}") for number in range(8)]
    devices = [Device(f"{number}") for number in range(8)]
    office.post(*(device.activate((lines[0], 1)) for device in devices))

    def crowd(number):
        def work(own):
            answers = []
            for turn in range(4):
                mine = [Device(f"{number} {turn} {other}") for other in range(4)]
                chosen = [lines[(number * 3 + turn + step * (-1) ** number) % 8] for step in range(4)]
                answers += own.post(
                    *(device.activate((line, 1)) for device, line in zip(mine, chosen, strict=True)),
                    *(device.copy(f"{number}").say("refresh", sequence=100) for device in devices[:: (-1) ** number]),
                )
            return [answer.outcome for answer in answers if answer.code not in {"fork", "on-hold"}]

        return work

    outcomes = at_once(office, url, *(crowd(number) for number in range(4)))
    assert {outcome for each in outcomes for outcome in each} == {MessageOutcome.GRANTED}
    office.audit()


@pytest.mark.slow
def test_two_processes_at_once_give_one_reply_to_each_message(office, url, tmp_path):
    lines = [office.buy(1000, name=f"line {number}") for number in range(3)]
    devices = [Device(f"{number}") for number in range(40)]
    messages = [device.activate((lines[number % 3], 1)) for number, device in enumerate(devices)]
    batches = [messages[start : start + 5] for start in range(0, 40, 5)]
    first, second = race_processes(tmp_path, url, batches, batches[::-1])
    assert first == second[::-1]
    assert [office.where(line)[1] for line in lines] == [14, 13, 13]
    assert office.audit().entries == 43


@pytest.mark.postgres
def test_a_deadlock_is_tried_again_and_nobody_sees_it(cluster):
    """Whoever locks out of order (an administrator's statement, say) cannot make a work fail."""
    url = cluster.new_database()
    office = Office.at(url)
    lines = sorted((office.buy(10, name=name) for name in "ab"), key=lambda line: line.line_id)
    met = threading.Barrier(2)
    attempts = []

    def work(tx, first, second):
        attempts.append(first)
        tx.load_lines_for_update([first])
        if len(attempts) <= 2:
            met.wait(timeout=120)
        return tx.load_lines_for_update([second])

    def run(own, *order):
        return own.store.transact(lambda tx: work(tx, *order))

    ids = [line.line_id for line in lines]
    found = at_once(office, url, lambda own: run(own, *ids), lambda own: run(own, *ids[::-1]))
    assert len(found) == 2
    assert len(attempts) == 3
    office.store.close()


@pytest.mark.postgres
def test_a_serialisation_failure_is_tried_again(cluster):
    office = Office.at(cluster.new_database())
    attempts = []

    def work(tx):
        attempts.append(1)
        if len(attempts) < 4:
            tx._connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'met' USING ERRCODE = '40001'; END $$"))
        return len(attempts)

    assert office.store.transact(work) == 4
    office.store.close()
