"""Whose trouble it is when a call fails: a certificate that nobody here vouches for is not a missing route.

The same for every caller: Device Administrator, the field server's own route, the commands of a running activation server.
"""

from __future__ import annotations

import ssl


def untrusted_certificate(error: BaseException) -> str | None:
    """Why the other side's certificate was refused here, in the words of the TLS library; None for any other fault."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return str(seen.verify_message or seen.reason or seen)[:200]
        seen = seen.__cause__ or seen.__context__
    return None
