"""TLS of the activation server itself: a certificate and its key from files, taken anew when the files change.

Guarantees: what is broken never replaces what works (it is logged, and tried again when the files change again), and
connections that are open go on with what they began with.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tallystick.errors import Error
from tallystick.sentences import _

HANDSHAKE_SECONDS: Final = 10.0
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """``certificate``: PEM, the server's own first, then those between it and a root. ``key``: PEM, without a password."""

    certificate: Path
    key: Path

    def load(self) -> ssl.SSLContext:
        """For TLS 1.2 and later. Raises ``Error`` (``certificate-unusable``)."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # A password is never asked for: nobody sits before a service.
            made.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise Error(
                "certificate-unusable",
                expected=_(
                    "a certificate in {certificate}, and its key in {key}", certificate=self.certificate, key=self.key
                ),
                seen=str(error),
            ) from error
        return made

    def marks(self) -> tuple[Any, ...]:
        """Something else whenever a file came, went, was replaced or written."""
        found = [path.stat() for path in (self.certificate, self.key) if path.exists()]
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


class RenewedContext:
    """``context`` is what a listener is given; each handshake is made with the newest that could be loaded.

    Raises ``Error`` (``certificate-unusable``) where there is none to begin with.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._marks = files.marks()  # before: what changes while it is loaded is taken at the next look
        self.context = self._newest = files.load()
        # OpenSSL asks at each handshake which context it is, whether or not the client says a name (RFC 6066, section 3).
        self.context.sni_callback = self._choose

    def renew(self) -> None:
        """Take the files anew if they changed."""
        try:
            marks = self._files.marks()
            if marks == self._marks:
                return
            self._marks = marks
            self._newest = self._files.load()
        except (Error, OSError) as error:
            _LOG.warning("the changed certificate is not used, and the one before stays: %s", error)
        else:
            _LOG.info("a new certificate is used from now on")

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest
