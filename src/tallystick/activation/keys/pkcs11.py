"""A signing key in a hardware security module, by PKCS #11: it signs there, and never comes out.

The token's key is found by its label, ``tallystick KID``; a token may hold any number of them. Needs the extra
``[pkcs11]``. One session, one signature at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from tallystick.activation.files import FileError
from tallystick.activation.settings import KeySettings
from tallystick.protocol.envelope import PublicKey, encode_base64url, seal
from tallystick.sentences import _

if TYPE_CHECKING:
    import pkcs11
    from pkcs11.types import SignMixin

_LABEL: Final = "tallystick "
_POINT_BYTES: Final = 32
_EDWARDS_25519: Final = "1.3.101.112"  # its object identifier (RFC 8410)


class TokenKey:
    """An Ed25519 key of a token. See ``signing.SigningKeyPort``."""

    place = "token"

    def __init__(self, key: SignMixin, public: PublicKey, lock: threading.Lock) -> None:
        self._key = key
        self._lock = lock
        self.public = public

    def sign(self, typ: str, payload: bytes) -> str:
        """One envelope. Raises ``FileError`` (``keys-unusable``) when the token does not sign."""
        return seal(self.public, typ, payload, self._sign)

    def _sign(self, data: bytes) -> bytes:
        import pkcs11  # noqa: PLC0415 - an extra
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415 - an extra

        try:
            with self._lock:
                signature: bytes = self._key.sign(data, mechanism=pkcs11.Mechanism.EDDSA)
        except PKCS11Error as error:
            raise _unusable(_("the token to sign"), error) from error
        return signature


class HardwareToken:
    """An open token."""

    def __init__(self, session: pkcs11.Session) -> None:
        self._session = session
        self._lock = threading.Lock()

    def find(self, publics: Collection[PublicKey]) -> dict[PublicKey, TokenKey]:
        """Those of the keys that it holds."""
        import pkcs11  # noqa: PLC0415 - an extra
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415 - an extra

        found: dict[PublicKey, TokenKey] = {}
        try:
            for public in publics:
                wanted: dict[Any, Any] = {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
                    pkcs11.Attribute.LABEL: _LABEL + public.thumbprint,
                }
                for key in self._session.get_objects(wanted):
                    found[public] = TokenKey(key, public, self._lock)  # type: ignore[arg-type]  # a private key signs
        except PKCS11Error as error:
            raise _unusable(_("the token to show its keys"), error) from error
        return found

    def create(self) -> TokenKey:
        """A new key, made and kept in the token."""
        import pkcs11  # noqa: PLC0415 - an extra
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415 - an extra
        from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415 - an extra

        try:
            curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(_EDWARDS_25519)}
            parameters = self._session.create_domain_parameters(pkcs11.KeyType.EC_EDWARDS, curve, local=True)
            made, key = parameters.generate_keypair(
                mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label=_LABEL + "new"
            )
            point: bytes = made[pkcs11.Attribute.EC_POINT]
            public = PublicKey(encode_base64url(point[-_POINT_BYTES:]))
            for half in (made, key):
                half[pkcs11.Attribute.LABEL] = _LABEL + public.thumbprint
        except PKCS11Error as error:
            raise _unusable(_("the token to make an Ed25519 key"), error) from error
        return TokenKey(key, public, self._lock)  # type: ignore[arg-type]  # a private key signs


def open_token(settings: KeySettings) -> HardwareToken:
    """The token that the settings name. Raises ``FileError`` (``keys-unusable``)."""
    try:
        import pkcs11  # noqa: PLC0415 - an extra
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _unusable(_("the extra tallystick[pkcs11] to be installed"), error) from error
    if settings.pkcs11_module is None or settings.pkcs11_token is None:
        raise _unusable(_("keys.pkcs11_module and keys.pkcs11_token in the settings"), _("none"))
    try:
        library = pkcs11.lib(settings.pkcs11_module)
        token = library.get_token(token_label=settings.pkcs11_token)
        return HardwareToken(token.open(rw=True, user_pin=settings.pkcs11_pin))
    except (PKCS11Error, RuntimeError, OSError) as error:
        raise _unusable(
            _(
                "token {pkcs11_token} of {pkcs11_module} to open",
                pkcs11_token=settings.pkcs11_token,
                pkcs11_module=settings.pkcs11_module,
            ),
            error,
        ) from error


def _unusable(expected: str, seen: object) -> FileError:
    text = str(seen) or type(seen).__name__
    return FileError("keys-unusable", expected=expected, seen=text[:200])
