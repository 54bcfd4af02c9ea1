"""A waiting period counts time in service with a steady clock, on both engines: a jump settles nothing."""

import itertools

import pytest

from support.activation import DAY, START, Device
from tallystick.activation.core import interventions
from tallystick.activation.core.clock import confirm_clock
from tallystick.activation.core.ports import IncidentKind, Status
from tallystick.activation.server.timekeeper import Timekeeper

pytestmark = pytest.mark.slow

HOUR = 3600


class Computer:
    """A clock that people set, and one that they do not."""

    def __init__(self, office):
        self.office, self.at, self.steady = office, START, 1000.0

    def worker(self):
        """A serving process that begins now."""
        return Timekeeper(self.office.store, self.office.signer, clock=lambda: self.at, steady=lambda: self.steady)

    def serve(self, *workers, seconds=0, step=HOUR):
        """Time goes by; each worker has its round of background work at every step, one after the other."""
        for _ in range(seconds // step):
            self.at += step
            self.steady += step
            for worker in workers:
                worker.tick()
                self.settle()

    def settle(self):
        self.office.now = self.at
        return self.office.store.transact(
            lambda tx: interventions.settle_quarantines(tx, self.office.signer, now=self.at)
        )

    def jump(self, seconds):
        self.at += seconds

    def stop(self, seconds):
        self.at += seconds
        self.steady += seconds

    def reboot(self, seconds):
        self.at += seconds
        self.steady = 5.0


@pytest.fixture
def computer(office):
    return Computer(office)


@pytest.fixture
def lost(office):
    """A field server that was declared lost while it lives, and its line."""
    line, device = office.buy(7), Device("a")
    office.post(device.activate((line, 2)))
    office.store.transact(
        lambda tx: interventions.declare_lost(
            tx, office.signer, device.id, reason="burnt", by="al", policy=office.policy, now=office.now
        )
    )
    return device, line


def status(office, device):
    return office.store.read(lambda tx: tx.load_field_servers_for_update([device.id]))[device.id].status


def jumps(office):
    return [
        incident
        for incident in office.store.read(lambda tx: tx.find_incidents())
        if incident.kind is IncidentKind.CLOCK_JUMPED
    ]


def test_a_clock_30_days_ahead_for_one_round_ends_no_waiting_period(office, computer, lost):
    device, line = lost
    workers = computer.worker(), computer.worker()
    computer.serve(*workers, seconds=DAY)
    computer.jump(30 * DAY)
    computer.serve(*workers, seconds=HOUR)
    computer.jump(-30 * DAY)
    computer.serve(*workers, seconds=5 * DAY)
    assert status(office, device) is Status.LOST
    assert office.where(line) == (5, 0, 0, 2)
    (jump,) = jumps(office)  # two workers, ahead and back: one thing to look at
    assert jump.detail == f"the clock of the activation server jumped {30 * DAY} s ahead"
    office.post(device.say("refresh"))
    assert status(office, device) is Status.ACTIVE
    office.audit()


def test_a_waiting_period_in_service_ends_when_it_is_over_and_not_before(office, computer, lost):
    workers = computer.worker(), computer.worker()
    computer.serve(*workers, seconds=14 * DAY - HOUR)
    assert status(office, lost[0]) is Status.LOST
    computer.serve(*workers, seconds=2 * HOUR)
    assert status(office, lost[0]) is Status.RETIRED
    assert jumps(office) == []


@pytest.mark.parametrize("seconds", [30 * DAY, -30 * DAY, HOUR, -HOUR])
def test_nothing_is_settled_after_a_jump_until_a_person_has_looked(office, computer, lost, seconds):
    worker = computer.worker()
    computer.serve(worker, seconds=13 * DAY)
    computer.jump(seconds)
    computer.serve(worker, seconds=20 * DAY)
    assert status(office, lost[0]) is Status.LOST
    (jump,) = jumps(office)
    assert jump.detail.endswith("ahead" if seconds > 0 else "back")
    office.store.transact(confirm_clock)
    computer.serve(worker, seconds=HOUR)
    assert status(office, lost[0]) is Status.RETIRED


@pytest.mark.parametrize("away", ["stop", "reboot"])
def test_time_out_of_service_is_not_counted_across_restarts(office, computer, lost, away):
    computer.serve(computer.worker(), seconds=7 * DAY)
    getattr(computer, away)(60 * DAY)
    again = computer.worker()
    computer.serve(again, seconds=7 * DAY - HOUR)
    assert status(office, lost[0]) is Status.LOST
    computer.serve(again, seconds=3 * HOUR)
    assert status(office, lost[0]) is Status.RETIRED
    assert jumps(office) == []


def test_a_clock_that_went_back_while_nothing_served_is_noticed(office, computer, lost):
    computer.serve(computer.worker(), seconds=13 * DAY)
    computer.reboot(-3 * DAY)
    computer.serve(computer.worker(), seconds=20 * DAY)
    assert [jump.detail.rpartition(" ")[2] for jump in jumps(office)] == ["back"]
    assert status(office, lost[0]) is Status.LOST


def test_workers_count_the_same_time_once(office, computer):
    first, second, third = (computer.worker() for _ in range(3))
    for worker, _ in zip(itertools.cycle([first, second, third]), range(90), strict=False):
        computer.serve(worker, seconds=20, step=20)
    clock = office.store.read(lambda tx: tx.load_clock())
    assert 90 * 20 - 60 <= clock.seconds <= 90 * 20
    assert clock.doubted_at is None


def test_a_small_correction_of_the_clock_is_no_jump(office, computer):
    worker = computer.worker()
    for correction in (2, -3, 25, -20):
        computer.serve(worker, seconds=HOUR)
        computer.jump(correction)
    computer.serve(worker, seconds=HOUR)
    assert jumps(office) == []


def test_after_a_round_that_failed_the_next_one_counts_all_of_it(office, computer):
    worker = computer.worker()
    computer.serve(worker, seconds=HOUR)
    before = office.store.read(lambda tx: tx.load_clock()).seconds
    computer.stop(HOUR)  # a round in which the database was not there
    computer.serve(worker, seconds=HOUR)
    assert office.store.read(lambda tx: tx.load_clock()).seconds == before + 2 * HOUR
