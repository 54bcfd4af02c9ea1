"""The TLS certificate that a field server makes for itself (P-256, self-signed), and its fingerprint.

Nobody has to trust it on its own word: Device Administrator pins it at first contact and shows the fingerprint, which
``init`` printed on the device. So it never has to be renewed, and a clock that is wrong does not invalidate it.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import ssl
from datetime import UTC, datetime
from typing import Final

from tallystick.domain.ids import DeviceId

_NOT_BEFORE: Final = datetime(2020, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63})*")


def make_certificate(*, device_id: DeviceId, name: str, serial: int) -> tuple[bytes, bytes]:
    """A new private key and its certificate, both PEM. ``name`` goes in where it can be a host's name."""
    # Only `init` makes one; the running agent, which stays small, needs none of this.
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - the same
        Encoding,
        NoEncryption,
        PrivateFormat,
    )
    from cryptography.x509 import oid  # noqa: PLC0415 - the same

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, f"field server {device_id[:20]}")])
    names: list[x509.GeneralName] = [x509.DNSName(name)] if _HOST_NAME.fullmatch(name) else []
    names += [x509.DNSName("localhost")] if name != "localhost" else []
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    usage = [oid.ExtendedKeyUsageOID.SERVER_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, certificate.public_bytes(Encoding.PEM)


def fingerprint_of(certificate_pem: bytes) -> str:
    """``SHA256:`` and the SHA-256 of the DER certificate in base64 without padding, as OpenSSH writes it."""
    der = ssl.PEM_cert_to_DER_cert(certificate_pem.decode("ascii"))
    return f"SHA256:{base64.b64encode(hashlib.sha256(der).digest()).rstrip(b'=').decode('ascii')}"
