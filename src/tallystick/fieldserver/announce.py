"""Says by multicast DNS that this field server is here, so that Device Administrator finds it. Off unless asked for.

What is said is what ``GET /v1/identity`` tells anyone. A finder believes none of it: it pins the certificate that the
address shows, and a person compares the fingerprint. Needs the package ``zeroconf`` (the extra ``announce``).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from tallystick.domain.ids import DeviceId

SERVICE: Final = "_tallystick._tcp.local."
_NAME_BYTES_MAX: Final = 40


def announce(
    *, device_id: DeviceId, name: str, kind: str, fingerprint: str, host: str, port: int
) -> Callable[[], None]:
    """Begin; what is returned ends it. Raises ``OSError`` where there is no network to say it on."""
    from zeroconf import InterfaceChoice, ServiceInfo, Zeroconf  # noqa: PLC0415 - only where it is asked for

    everywhere = host in {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
    interfaces: Any = InterfaceChoice.All if everywhere else [host]
    addresses = _own_addresses() if everywhere else [host]
    label = f"{_plain(name)}-{device_id[:8]}"
    info = ServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        port=port,
        properties={"id": device_id, "name": _plain(name), "kind": kind, "fp": fingerprint},
        server=f"tallystick-{_plain(device_id[:16])}.local.",
        parsed_addresses=addresses,
    )
    zeroconf = Zeroconf(interfaces=interfaces)
    zeroconf.register_service(info, allow_name_change=True)

    def end() -> None:
        zeroconf.unregister_service(info)
        zeroconf.close()

    return end


def _own_addresses() -> list[str]:
    """The addresses of this device, the one that its default route uses first."""
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # documentation range: nothing is sent by connecting a datagram socket
            found.append(str(probe.getsockname()[0]))
        except OSError:
            pass
    try:
        rows = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        found += [str(row[4][0]) for row in rows]
    except OSError:
        pass
    return list(dict.fromkeys(found)) or ["127.0.0.1"]


def _plain(text: str) -> str:
    """A label that every resolver takes."""
    kept = "".join(symbol if symbol.isascii() and (symbol.isalnum() or symbol == "-") else "-" for symbol in text)
    return kept[:_NAME_BYTES_MAX].strip("-") or "field-server"
