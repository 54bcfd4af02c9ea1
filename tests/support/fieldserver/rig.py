"""An agent on a disk, a clock and randomness that are in the test's hands."""

import contextlib

from support.fieldserver.disk import FaultyDisk
from support.fieldserver.helpers import NOW, Desk
from tallystick.fieldserver import vault
from tallystick.fieldserver.agent import Agent
from tallystick.fieldserver.vault import Vault
from tallystick.protocol.tallyfile import parse_chunks

SEED = b"d" * 32


class FakeClock:
    def __init__(self):
        self.value = NOW

    def now(self):
        return self.value


class Counting:
    def __init__(self):
        self.count = 0

    def bytes(self, count):
        self.count += 1
        return self.count.to_bytes(count, "big")


class FreeLock:
    @contextlib.contextmanager
    def hold(self):
        yield


class Rig:
    def __init__(self):
        self.desk = Desk(seed=SEED)
        self.disk, self.clock = FaultyDisk(), FakeClock()
        vault.create(self.disk, SEED, self.desk.state)
        self.agent = self.other()

    def other(self):
        vault_ = Vault(self.disk, SEED)
        return Agent(vault=vault_, device=self.desk.device, clock=self.clock, random=Counting(), lock=FreeLock())

    def deliver(self, *lines):
        return self.agent.deliver(list(parse_chunks(["\n".join(lines).encode()])))
