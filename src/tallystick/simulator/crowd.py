"""Many field servers in one process, on loopback: real engines, vaults in memory, the real HTTPS API, one port each.

For tests, screenshots and ``make bench-site``: a site of forty, or of a thousand, without a process for each. They share
one certificate and one password; each waits ``delay_seconds`` before it answers, as a distant one would.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.domain.ids import DeviceId
from tallystick.fieldserver.agent import Agent
from tallystick.fieldserver.api import Api, make_app
from tallystick.fieldserver.certificate import fingerprint_of, make_certificate
from tallystick.fieldserver.checks import Checks
from tallystick.fieldserver.gate import Gate, hash_password
from tallystick.fieldserver.platform import SystemClock, SystemRandom
from tallystick.fieldserver.state import Device, State
from tallystick.fieldserver.vault import Vault, create
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.messages import Facts
from tallystick.simulator.parties import seeded

PASSWORD: Final = "crowd-password"  # noqa: S105 - of simulated field servers
KINDS: Final = ("AS-P", "AS-B", "Edge Server")


class MemoryDisk:
    """Implements ``fieldserver.ports.Disk``."""

    def __init__(self) -> None:
        self._slots: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """All bytes of a slot."""
        return self._slots.get(name)

    def write(self, name: str, data: bytes) -> None:
        """Put them there."""
        self._slots[name] = data

    def sync(self, name: str) -> None:
        """Nothing to wait for."""


class _Lock:
    """Implements ``fieldserver.ports.Lock`` within one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """One step at a time."""
        with self._lock:
            yield


def make_member(name: str, *, kind: str, seed: str, fingerprint: str) -> ASGIApp:
    """One field server's API."""
    key = PrivateKey(seeded(f"{seed} {name}"))
    device = Device(key=key, facts=Facts(kind=kind, host_id=f"host-{seed}-{name}", name=name, software="1.0"))
    disk = MemoryDisk()
    create(disk, key.seed(), State(device_id=DeviceId(device.device_id)))
    vault = Vault(disk, key.seed())
    agent = Agent(vault=vault, device=device, clock=SystemClock(), random=SystemRandom(), lock=_Lock())
    checks = Checks(load=vault.peek, stamp=lambda: None, wall_clock=time.time)  # noqa: TID251 - as the real service
    gate = Gate(_HASH, secret=seeded(name))
    gate.is_right(PASSWORD)
    return make_app(
        Api(
            agent=agent,
            checks=checks,
            gate=gate,
            clock=SystemClock(),
            monotonic=time.monotonic,
            fingerprint=fingerprint,
            activation=lambda: None,
            written=lambda: None,
        )
    )


_HASH: Final = hash_password(PASSWORD, bytes(16))


class Crowd:
    """Sends each request to the member whose port it came in at."""

    def __init__(self, members: dict[int, ASGIApp], *, delay_seconds: float) -> None:
        self._members = members
        self._delay_seconds = delay_seconds
        self.at_once = 0
        self.at_once_max = 0
        self.connections: Sized = ()
        self.connections_max = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, later."""
        if scope["path"] == "/crowd":  # for whoever runs the test; ?SECONDS changes the delay
            if scope["query_string"]:
                self._delay_seconds = float(scope["query_string"])
            await _tell(send, {"at_once_max": self.at_once_max, "connections_max": self.connections_max})
            return
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        self.connections_max = max(self.connections_max, len(self.connections))
        try:
            await asyncio.sleep(self._delay_seconds)
            await self._members[scope["server"][1]](scope, receive, send)
        finally:
            self.at_once -= 1


async def _tell(send: Send, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(options: dict[str, Any]) -> None:
    """Serve until the process is ended. Options: count or names, delay_seconds, seed. Prints one JSON line."""
    names: Sequence[str] = options.get("names") or [f"fs{number:04}" for number in range(options["count"])]
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in names]
    private, certificate = make_certificate(device_id=DeviceId("crowd" * 8), name="localhost", serial=1)
    members = {
        listener.getsockname()[1]: make_member(
            name,
            kind=KINDS[number % len(KINDS)],
            seed=str(options.get("seed", "crowd")),
            fingerprint=fingerprint_of(certificate),
        )
        for number, (name, listener) in enumerate(zip(names, listeners, strict=True))
    }
    with tempfile.TemporaryDirectory() as directory:
        key_file, certificate_file = Path(directory) / "key.pem", Path(directory) / "certificate.pem"
        key_file.write_bytes(private)
        certificate_file.write_bytes(certificate)
        crowd = Crowd(members, delay_seconds=float(options.get("delay_seconds", 0)))
        config = uvicorn.Config(
            crowd,
            http="h11", loop="asyncio", ws="none", lifespan="off", log_config=None, access_log=False,
            ssl_certfile=certificate_file, ssl_keyfile=key_file, timeout_keep_alive=15,
        )  # fmt: skip
        config.load()
        addresses = [f"https://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
        sys.stdout.write(json.dumps({"names": list(names), "addresses": addresses, "password": PASSWORD}) + "\n")
        sys.stdout.flush()
        server = uvicorn.Server(config)
        crowd.connections = server.server_state.connections
        server.run(sockets=listeners)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
