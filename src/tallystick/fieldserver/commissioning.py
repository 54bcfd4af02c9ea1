"""How a data directory comes to be: the device's key, the vault, the certificate and the password.

Guarantees: ``fieldserver.json`` is written last, so a directory is initialised whole or not at all; what another
``init`` finished is never overwritten; what an interrupted one left behind is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tallystick.directories import make_directory
from tallystick.domain.ids import DeviceId
from tallystick.domain.text import identifies, normal
from tallystick.errors import Error
from tallystick.fieldserver import platform, vault
from tallystick.fieldserver.agent import Agent, DeliveryResult
from tallystick.fieldserver.certificate import fingerprint_of, make_certificate
from tallystick.fieldserver.gate import PASSWORD_RANDOM_BYTES, SALT_BYTES, hash_password, make_password
from tallystick.fieldserver.platform import Home, Settings, write_file
from tallystick.fieldserver.ports import Clock, Random
from tallystick.fieldserver.state import State
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.keys import Keyset, parse_keyset
from tallystick.protocol.messages import KEYS
from tallystick.protocol.problems import WireError
from tallystick.protocol.tallyfile import BadLine, parse_chunks
from tallystick.sentences import _

_SERIAL_BYTES: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Commissioned:
    """What ``init`` tells."""

    home: Home
    certificate_fingerprint: str
    password_file: Path
    delivery: DeliveryResult | None


def open_agent(home: Home, *, clock: Clock, random: Random) -> Agent:
    """The agent of an initialised data directory."""
    return Agent(
        vault=vault.Vault(platform.FileDisk(home.directory), home.seed),
        device=home.device,
        clock=clock,
        random=random,
        lock=platform.FileLock(home.directory / platform.LOCK_FILE),
    )


def commission(
    directory: Path, *, settings: Settings, clock: Clock, random: Random, keys: bytes | None = None
) -> Commissioned:
    """Make a field server. ``keys``: a tally file with the keyset of the root, which is taken as the one to pin.

    Raises ``Error``: ``already-initialised``, ``disk-full``, ``disk-failed``, ``vault-locked``; ``usage`` where neither a
    root nor trust at first delivery is asked for; and what is wrong with ``keys``. Nothing was made then.
    """
    settings = msgspec.structs.replace(
        settings, name=normal(settings.name), kind=normal(settings.kind), host_id=_checked_host_id(settings.host_id)
    )
    if keys is not None:
        settings = msgspec.structs.replace(settings, root=find_root(keys, named=settings.root))
    if (settings.root is None) is not settings.trust_first:
        raise Error(
            "usage",
            expected=_("one of --root FINGERPRINT, --keys FILE and --trust-first"),
            seen=_("both") if settings.trust_first else _("none"),
        )
    try:
        make_directory(directory)
    except OSError as error:
        vault.refuse_disk(error, _("to make {directory}", directory=directory))
    with platform.FileLock(directory / platform.LOCK_FILE).hold():
        _check_unused(directory)
        write_file(directory / platform.BEGUN_FILE, b"")
        certificate = _write_secrets(directory, settings, random)
        write_file(directory / platform.SETTINGS_FILE, platform.encode_settings(settings))
        (directory / platform.BEGUN_FILE).unlink(missing_ok=True)
    home = platform.load_home(directory)
    agent = open_agent(home, clock=clock, random=random)
    return Commissioned(
        home=home,
        certificate_fingerprint=fingerprint_of(certificate),
        password_file=directory / platform.PASSWORD_FILE,
        delivery=None if keys is None else agent.deliver(list(parse_chunks([keys]))),
    )


def _checked_host_id(host_id: str | None) -> str | None:
    """As it is kept. Raises ``Error`` (``host-id-empty``) for one that many machines have."""
    if host_id is not None and not identifies(host_id):
        raise Error("host-id-empty", expected=_("what tells this machine from others"), seen=repr(host_id[:60]))
    return None if host_id is None else normal(host_id)


def find_root(data: bytes, *, named: str | None) -> str:
    """The root to pin: that of the newest keyset in a tally file, or the one that was named and led to it. Raises ``Error``."""
    found: list[Keyset] = []
    trouble: Error | None = None
    for line in parse_chunks([data]):
        try:
            if isinstance(line, BadLine):
                trouble = line.error
            elif line.envelope.typ == KEYS:
                found.append(parse_keyset(line.envelope))
        except WireError as error:
            trouble = error
    if not found and trouble is not None:
        raise trouble
    if not found:
        raise Error("not-found", expected=_("a tally file with the keys of the activation server"), seen=_("no keys"))
    newest = max(found, key=lambda keyset: keyset.version)
    if named is not None and named not in newest.root_fingerprints:
        raise Error(
            "root-differs",
            expected=_("root {thumbprint}", thumbprint=named),
            seen=_("root {thumbprint}", thumbprint=newest.root_fingerprint),
        )
    return named or newest.root_fingerprint


def _check_unused(directory: Path) -> None:
    settings, seed = directory / platform.SETTINGS_FILE, directory / platform.SEED_FILE
    is_interrupted = (directory / platform.BEGUN_FILE).exists()
    if settings.exists() or (seed.exists() and not is_interrupted):
        raise Error(
            "already-initialised",
            expected=_("an empty or new data directory"),
            seen=_("a field server in {directory}", directory=directory),
        )


def _write_secrets(directory: Path, settings: Settings, random: Random) -> bytes:
    seed = random.bytes(platform.SEED_BYTES)
    device_id = PrivateKey(seed).public.device_id
    write_file(directory / platform.SEED_FILE, seed)
    certificate = write_certificate(directory, device_id=device_id, name=settings.name, random=random)
    write_password(directory, random)
    vault.create(platform.FileDisk(directory), seed, State(device_id=device_id))
    return certificate


def renew_access(directory: Path, *, new_certificate: bool) -> dict[str, str]:
    """A new password, and a certificate where that is asked for: what is to be handed on. Raises ``Error``."""
    home, random = platform.load_home(directory), platform.SystemRandom()
    if new_certificate:
        write_certificate(directory, device_id=home.device.device_id, name=home.settings.name, random=random)
    certificate = platform.read_file(directory / platform.TLS_CERTIFICATE_FILE)
    password_file = write_password(directory, random)
    return {"password_file": str(password_file), "certificate_fingerprint": fingerprint_of(certificate)}


def write_certificate(directory: Path, *, device_id: DeviceId, name: str, random: Random) -> bytes:
    """A new key and certificate for the API, in force when the field server starts again. The certificate."""
    serial = int.from_bytes(random.bytes(_SERIAL_BYTES), "big") | 1
    private, certificate = make_certificate(device_id=device_id, name=name, serial=serial)
    write_file(directory / platform.TLS_KEY_FILE, private)
    write_file(directory / platform.TLS_CERTIFICATE_FILE, certificate)
    return certificate


def write_password(directory: Path, random: Random) -> Path:
    """A new password for the API, in force when the field server starts again. Where it is written. Raises ``Error``."""
    password = make_password(random.bytes(PASSWORD_RANDOM_BYTES))
    hashed = hash_password(password, random.bytes(SALT_BYTES))
    write_file(directory / platform.PASSWORD_HASH_FILE, f"{hashed}\n".encode())
    write_file(directory / platform.PASSWORD_FILE, f"{password}\n".encode())
    return directory / platform.PASSWORD_FILE
