"""A field server or a laptop whose clock jumps, both ways, while it works: real processes, real vaults, the clock of one party.

The clock decides one thing at a field server: when a license ends. It decides nothing at Device Administrator. So a clock that is
wrong loses nothing, gives nothing out twice, and accuses nobody; set right again, everything is as it was.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from support.parties import TRACEBACK, Activation, FieldServer, Technician, run, run_here

pytestmark = pytest.mark.slow

DAY = 86_400
NOW = int(time.time())
JUMPS = {
    "a year ahead": 400 * DAY,
    "a year back": -400 * DAY,
    "to 1970": -NOW,
    "to 2105": 4_290_000_000 - NOW,
}


class Plant:
    """An activation server, a field server, a laptop with a route to both; ten rights that end in thirty days."""

    def __init__(self, home) -> None:
        self.activation = Activation(home / "activation")
        self.activation.run = run_here
        self.activation.make()
        self.activation.start()
        ends = time.strftime("%Y-%m-%d", time.gmtime(NOW + 30 * DAY))
        product = ("--account", "acme", "--product", "connected-devices=10", "--expires", ends)
        sold = self.activation.command("entitlement", "create", *product, "--json")
        self.line = sold["lines"][0]["line"]
        self.roof = FieldServer(home / "plant" / "roof")
        self.roof.directory.parent.mkdir()
        self.roof.make()
        self.roof.start()
        self.laptop = Technician(home / "laptop")  # commands in this process, where its clock does not matter
        self.laptop.run = run_here
        self.laptop("entitlement", "add", sold["entitlement_id"], "--activation", self.activation.url)
        self.laptop.add(self.roof)

    def jump(self, who: str, seconds: int) -> None:
        clock = self.roof.clock if who == "field server" else self.laptop.clock
        clock.write_text(str(seconds), "ascii")

    def activate(self, quantity: int) -> None:
        self.laptop("activate", "roof", "--line", f"{self.line}={quantity}")
        assert self.roof.held() == {self.line: quantity}

    def standing(self, wanted: str) -> None:
        """What the running field server answers to a check, within two looks at its vault."""
        deadline = time.monotonic() + 120
        while True:
            _, _, said = self.roof.call("GET", "/v1/checks/connected-devices")
            if said["standing"] == wanted:
                return
            assert time.monotonic() < deadline, said
            time.sleep(0.2)

    def audit(self) -> None:
        assert self.activation.command("incidents", "--json") == []
        self.activation.verify()
        for log in (self.activation.log, self.roof.log):
            assert TRACEBACK not in log.read_text()

    def stop(self) -> None:
        self.roof.stop()
        self.activation.stop()


@pytest.fixture
def plant(tmp_path):
    found = Plant(tmp_path)
    yield found
    found.stop()


@pytest.mark.parametrize("who", ["field server", "laptop"])
def test_work_goes_on_whatever_the_clock_says_and_after_it_is_set_right(plant, who):
    if who == "laptop":
        plant.laptop.run = run
    for seconds in JUMPS.values():
        plant.jump(who, seconds)
        plant.activate(4)
        plant.laptop("sync")
        plant.jump(who, 0)
        plant.activate(3)
    plant.laptop("return", "roof")
    assert plant.roof.held() == {}
    assert plant.activation.lines()[plant.line]["available"] == 10
    plant.audit()


def test_a_clock_ahead_ends_a_license_setting_it_back_gains_nothing_and_the_next_contact_heals_it(plant):
    plant.activate(2)
    plant.standing("licensed")
    plant.jump("field server", 400 * DAY)
    plant.standing("expired")
    plant.jump("field server", 0)
    time.sleep(2.5)
    plant.standing("expired")
    plant.activate(3)
    plant.standing("licensed")
    plant.audit()


def test_a_clock_back_keeps_what_runs_and_gives_back_nothing_that_has_ended(plant):
    plant.activate(2)
    plant.jump("field server", -400 * DAY)
    time.sleep(2.5)
    plant.standing("licensed")
    plant.roof.stop()
    plant.roof.start()
    plant.standing("licensed")
    plant.jump("field server", 31 * DAY)
    plant.standing("expired")
    plant.jump("field server", -400 * DAY)
    time.sleep(2.5)
    plant.standing("expired")
    plant.audit()


def test_what_a_laptop_remembers_of_another_time_is_gone_on_with(plant):
    """An operation that was begun a year ago, or on a day that the clock has not come to yet."""
    plant.activate(2)
    for seconds in (400 * DAY, -400 * DAY):
        os.kill(plant.roof.pid, signal.SIGSTOP)
        begun = plant.laptop.launch("activate", "roof", "--line", f"{plant.line}=5")
        while not [one for one in plant.laptop("operations", "--json") if one["state"] == "running"]:
            assert begun.poll() is None
        begun.kill()
        begun.communicate()
        os.kill(plant.roof.pid, signal.SIGCONT)
        plant.jump("laptop", seconds)
        plant.laptop.run = run
        plant.laptop("go-on")
        plant.laptop.run = run_here
        assert plant.roof.held() == {plant.line: 5}
        assert plant.laptop("status", "--json")["unfinished"] == []
        plant.jump("laptop", 0)
        plant.activate(2)
    plant.audit()
