"""The management API inside this process, for who runs the activation server's computer: what local commands speak.

Requests take the same way as over the network, from the route to the audit trail, but for the token: whoever can read
the data directory is a vendor administrator. The audit trail says which login it was, and that it was a command line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from tallystick.activation.core.permissions import Caller
from tallystick.activation.http.management import add_module, add_office, caller_of, module_of
from tallystick.activation.http.protocol_api import ProtocolContext, create_api
from tallystick.activation.http.strangers import Strangers
from tallystick.activation.server.instance import Activation
from tallystick.activation.server.office import make_office
from tallystick.activation.services.batcher import Batcher

_SERVER: Final = ("command-line", 0)


class InProcessClient:
    """The management API of an open data directory, for one caller. It listens nowhere."""

    def __init__(self, activation: Activation, caller: Caller) -> None:
        batcher = Batcher(
            activation.store,
            activation.signer,
            activation.settings.policy,
            clock=activation.now,
            on_broken=lambda _: None,
        )
        self._batcher = batcher
        self._is_started = False
        context = ProtocolContext(
            store=activation.store,
            signer=activation.signer,
            batcher=batcher,
            clock=activation.now,
            strangers=Strangers(clock=time.monotonic),
            policy=activation.settings.policy,
        )
        self._site = create_api(context)
        add_office(self._site, make_office(activation, batcher))
        self._modules: set[str] = set()

        async def this_caller() -> Caller:
            return caller

        self._site.dependency_overrides[caller_of] = this_caller

    def send(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """The status, the headers (names in small letters) and the body that a request is answered with."""
        if not self._is_started:  # its threads are daemons: they end with the command
            self._is_started = True
            self._batcher.start()
        return asyncio.run(self._exchange(method, target, headers, content or b""))

    async def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        path, _, query = target.partition("?")
        module = module_of(path)
        if module is not None and module not in self._modules:  # to load all would be a third of a command's time
            self._modules.add(module)
            add_module(self._site, module)
        sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [*sent, (b"content-length", str(len(content)).encode())],
            "server": _SERVER,
            "client": _SERVER,
        }
        bodies = [{"type": "http.request", "body": content, "more_body": False}]
        answered: dict[str, Any] = {}
        pieces: list[bytes] = []

        async def receive() -> dict[str, Any]:
            if not bodies:
                await asyncio.Event().wait()  # nobody hangs up
            return bodies.pop()

        async def send(event: Any) -> None:
            if event["type"] == "http.response.start":
                answered.update(event)
            else:
                pieces.append(event.get("body", b""))

        await self._site(scope, receive, send)
        told = {name.decode().lower(): value.decode() for name, value in answered["headers"]}
        return answered["status"], told, b"".join(pieces)
