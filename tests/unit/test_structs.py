"""Many threads that meet a kind of message for the first time at once do not crash the process."""

import importlib
import pkgutil
import subprocess
import sys

from msgspec import Struct

import tallystick
from tallystick import structs
from tallystick.administrator.core import goals
from tallystick.administrator.memory import inventory

RACE = """
import sys, threading
from tallystick.protocol.device_api import LicenseReport
from tallystick.fieldserver.codec import StateRecord
from tallystick.protocol import messages
import msgspec

sys.setswitchinterval(1e-6)
kinds = [messages.Grant, messages.Request, StateRecord, LicenseReport]
barrier = threading.Barrier(16)

def meet(kind):
    barrier.wait()
    try:
        msgspec.convert({"epoch": "x"}, kind)
    except msgspec.ValidationError:
        pass

threads = [threading.Thread(target=meet, args=(kinds[number % 4],)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def all_structs(kind=Struct):
    for child in kind.__subclasses__():
        yield child
        yield from all_structs(child)


def test_every_struct_is_known_before_any_thread_can_meet_it():
    for module in pkgutil.walk_packages(tallystick.__path__, "tallystick."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    ours = {kind for kind in all_structs() if kind.__module__.startswith("tallystick.")}
    assert ours - structs.KNOWN == set()


def test_every_dataclass_that_is_read_from_json_is_known():
    assert {inventory.Trouble, goals.Report} <= structs.KNOWN


def test_sixteen_threads_that_meet_them_at_once_go_on():
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
