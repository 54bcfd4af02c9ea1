"""Field servers that announce themselves by multicast DNS on the networks of this computer.

Nothing that is found is believed, and nothing is sent to it: adding it looks at its certificate and pins that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SERVICE: Final = "_tallystick._tcp.local."
FOUND_MAX: Final = 5_000
_ANSWER_MILLISECONDS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedFieldServer:
    """What one says of itself, and where."""

    name: str
    kind: str
    device_id: str
    address: str
    fingerprint: str


def find_field_servers(*, seconds: float, interfaces: Sequence[str] | None = None) -> list[AnnouncedFieldServer]:
    """Listen for a while. ``interfaces`` None: all of this computer. Raises ``OSError`` where there is no network."""
    from zeroconf import InterfaceChoice, ServiceBrowser, Zeroconf  # noqa: PLC0415 - slow to load, and rarely needed

    names: dict[str, None] = {}

    class Listener:
        def add_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
            if len(names) < FOUND_MAX:
                names[name] = None

        def update_service(self, _zeroconf: Any, _kind: str, _name: str) -> None:
            return

        def remove_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
            names.pop(name, None)

    chosen: Any = InterfaceChoice.All if interfaces is None else list(interfaces)
    zeroconf = Zeroconf(interfaces=chosen)
    try:
        listener: Any = Listener()
        browser = ServiceBrowser(zeroconf, SERVICE, listener)
        time.sleep(seconds)
        infos = [zeroconf.get_service_info(SERVICE, name, timeout=_ANSWER_MILLISECONDS) for name in list(names)]
        browser.cancel()
    finally:
        zeroconf.close()
    found = [_found(info) for info in infos if info is not None and info.parsed_addresses()]
    return sorted(found, key=lambda one: (one.name.casefold(), one.address))


def _found(info: Any) -> AnnouncedFieldServer:
    said = {
        key.decode("ascii", "replace"): (value or b"").decode("utf-8", "replace")[:200]
        for key, value in info.properties.items()
    }
    address = info.parsed_addresses()[0]
    host = f"[{address}]" if ":" in address else address
    return AnnouncedFieldServer(
        name=said.get("name", ""),
        kind=said.get("kind", ""),
        device_id=said.get("id", ""),
        address=f"https://{host}:{info.port}",
        fingerprint=said.get("fp", ""),
    )
