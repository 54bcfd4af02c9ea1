"""A field server without a process: the real engine in memory, right or made wrong on purpose."""

from __future__ import annotations

import sys
import types
from pathlib import Path

from tallystick.domain.ids import LineId, parse_activation_id
from tallystick.fieldserver import engine, state
from tallystick.protocol import messages, tallyfile
from tallystick.protocol.envelope import PrivateKey


def make_wrong(old: str, new: str) -> types.ModuleType:
    """The engine's module with one text replaced."""
    source = Path(engine.__file__).read_text("utf-8")
    assert source.count(old) == 1, f"{source.count(old)} places read {old!r}"
    module = types.ModuleType("tallystick.fieldserver.engine_made_wrong")
    module.__file__ = engine.__file__
    sys.modules[module.__name__] = module  # dataclasses look for it
    exec(compile(source.replace(old, new), "engine made wrong", "exec"), module.__dict__)
    return module


class EngineFieldServer:
    """Implements the conformance kit's port."""

    def __init__(self, module: types.ModuleType = engine, *, now: int) -> None:
        self.engine = module
        self.now = now
        facts = messages.Facts(kind="AS-P", host_id="conformance", name="conformance", software="0")
        self.device = state.Device(key=PrivateKey(b"conformance field server, secret"), facts=facts)
        self.state = state.State(device_id=self.device.device_id)
        self.drawn = 0

    def random(self) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(32, "big")

    def wish(self, wish: dict) -> bool:
        match wish["purpose"]:
            case "activate":
                wants = [
                    state.ActivationWant(
                        activation_id=parse_activation_id(want["activation_id"]), quantity=want["quantity"]
                    )
                    for want in wish["wants"]
                ]
                found = state.Activate(wants=tuple(wants))
            case "return":
                lowered = [
                    state.ReturnWant(line_id=LineId(want["line"]), quantity=want["quantity"])
                    for want in wish.get("wants", [])
                ]
                found = state.Return(wants=None if wish.get("all") else tuple(lowered))
            case "refresh":
                found = state.Refresh()
            case _:
                found = state.Relinquish(is_final=wish.get("final", False))
        self.state, written = self.engine.write_request(
            self.state, found, device=self.device, now=self.now, random=self.random()
        )
        return isinstance(written, state.Written)

    def outbox(self) -> bytes:
        return b"".join(tallyfile.format_file(waiting.compact for waiting in self.state.outbox))

    def deliver(self, tally: bytes) -> None:
        good = [line.envelope for line in tallyfile.parse_chunks([tally]) if isinstance(line, tallyfile.GoodLine)]
        self.state, _results = self.engine.receive_all(
            self.state, good, device=self.device, now=self.now, random=self.random()
        )
