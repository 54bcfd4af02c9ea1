"""Commands about keys: list, rotate, retire, hand over the root. All but the first need the root key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.console import AsJson, By, Data, Database
from tallystick.sentences import _

if TYPE_CHECKING:
    from tallystick.activation.keys.signing import KeySigner
    from tallystick.protocol.keys import Keyset

keys_app = typer.Typer(no_args_is_help=True, help="The signing keys and the root: list, rotate, retire, hand over.")

Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="FILE.pem",
        help="The root key, where it was moved to; else DATA/keys/root.pem. Its passphrase, where it has one, is in "
        "TALLYSTICK_ROOT_PASSPHRASE.",
    ),
]


@keys_app.command("list", epilog="Example: tallystick activation keys list --data DIR")
def list_(data: Data, as_json: AsJson = False) -> None:
    """The keys of the keyset, which of them signs, and the root."""
    with console.report_errors(as_json):
        signer = _signer(data)
        view = keyset_view(signer.keyset, current=signer.key.public.thumbprint, place=signer.key.place)
        if as_json:
            console.print_json(view)
            return
        console.say(
            _(
                "Keyset {version} of {issuer}, root {root_fingerprint}",
                version=view["version"],
                issuer=view["issuer"],
                root_fingerprint=view["root_fingerprint"],
            )
        )
        for handover in view["handovers"]:
            console.say(
                _(
                    "  handed over at version {version} by root {root_fingerprint}",
                    version=handover["version"],
                    root_fingerprint=handover["root_fingerprint"],
                )
            )
        rows = [
            (
                key["kid"],
                _("signs, in a {place}", place=key["place"]) if key["signs"] else "",
                _("no end") if key["valid_until"] is None else console.moment(key["valid_until"]),
            )
            for key in view["keys"]
        ]
        console.print_table((_("Key"), _("Now"), _("What it signed before this is valid")), rows, empty=_("No keys."))


@keys_app.command(epilog="Example: tallystick activation keys rotate --root /media/safe/root.pem --data DIR")
def rotate(
    data: Data,
    root: Root = None,
    overlap_hours: Annotated[
        int,
        typer.Option(
            "--overlap-hours", min=0, max=8760, help="How long the keys until now may still sign in other processes."
        ),
    ] = 24,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a new signing key and a keyset that names it. A serving process takes it up by itself, within seconds.

    What older keys signed before their end stays valid. Field servers and Device Administrators get the new keyset
    with what is carried to them anyway. Where the settings name a hardware module, the new key is made in it.
    """
    from tallystick.activation.keys import lifecycle
    from tallystick.activation.server.instance import Activation, load_settings

    with console.report_errors(as_json), console.noted(data, database, by=by) as note:
        settings, key = load_settings(data), _root(data, root)
        keyset, made = lifecycle.rotate(
            data,
            key,
            settings.keys,
            seed=Activation.random_bytes(32),
            now=Activation.now(),
            overlap_seconds=overlap_hours * 3600,
        )
        note("keys-rotate", made.public.thumbprint, f"keyset {keyset.version}, {made.place}")
        if as_json:
            console.print_json(keyset_view(keyset, current=made.public.thumbprint, place=made.place))
        else:
            console.say(
                _(
                    "Keyset {version}: {thumbprint} signs from now on (in a {place}).",
                    version=keyset.version,
                    thumbprint=made.public.thumbprint,
                    place=made.place,
                )
            )
            console.say(_("Next: make a backup of the keys, and put the root key back to its safe place."))


@keys_app.command(epilog="Example: tallystick activation keys retire 7hKmWv --root /media/safe/root.pem --data DIR")
def retire(
    kid: Annotated[str, typer.Argument(metavar="KEY", help="The key, or its first 6 symbols or more: see keys list.")],
    data: Data,
    root: Root = None,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove", help="It was stolen: take it out, so that nothing that it signed is believed any more."
        ),
    ] = False,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """End a key now. With --remove, what it signed and was not delivered yet is lost: field servers ask again."""
    from tallystick.activation.keys import lifecycle
    from tallystick.activation.server.instance import Activation

    with console.report_errors(as_json), console.noted(data, database, by=by) as note:
        signer, key = _signer(data), _root(data, root)
        current = signer.key.public.thumbprint
        keyset = lifecycle.retire(data, key, kid, current=current, now=Activation.now(), remove=remove)
        note("keys-retire", kid, f"keyset {keyset.version}, {'taken out' if remove else 'ended'}")
        if as_json:
            console.print_json(keyset_view(keyset, current=current, place=signer.key.place))
        else:
            console.say(
                _(
                    "Keyset {version}: {kid} is {value}.",
                    version=keyset.version,
                    kid=kid,
                    value="taken out" if remove else "ended",
                )
            )


@keys_app.command(
    "hand-over",
    epilog="Example: tallystick activation keys hand-over --root old-root.pem --new-root new-root.pem --data DIR",
)
def hand_over(
    data: Data,
    new_root: Annotated[
        Path,
        typer.Option(
            "--new-root",
            metavar="FILE.pem",
            help="The next root key; made if there is none, with the passphrase in TALLYSTICK_NEW_ROOT_PASSPHRASE.",
        ),
    ],
    root: Root = None,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Give the root up for a new one. Whoever has pinned the old root takes the new one with the next keyset."""
    from tallystick.activation.files import save_named_file
    from tallystick.activation.keys import lifecycle, signing
    from tallystick.activation.server.instance import Activation
    from tallystick.protocol.envelope import PrivateKey

    with console.report_errors(as_json), console.noted(data, database, by=by) as note:
        old = _root(data, root)
        passphrase = os.environ.get("TALLYSTICK_NEW_ROOT_PASSPHRASE")
        if new_root.exists():
            successor = signing.load_key(new_root, passphrase=passphrase)
        else:
            seed = Activation.random_bytes(32)
            successor = PrivateKey(seed)
            save_named_file(new_root, [lifecycle.key_pem(seed, passphrase)], mode=0o600)
        keyset = lifecycle.hand_over(data, old, successor, now=Activation.now())
        signer = _signer(data)
        note("keys-hand-over", keyset.root_fingerprint, f"keyset {keyset.version}")
        if as_json:
            console.print_json(keyset_view(keyset, current=signer.key.public.thumbprint, place=signer.key.place))
        else:
            console.say(
                _(
                    "Keyset {version}: the root is {root_fingerprint} from now on, in {new_root}.",
                    version=keyset.version,
                    root_fingerprint=keyset.root_fingerprint,
                    new_root=new_root,
                )
            )
            console.say(_("Next: keep the new root key safe; destroy the old one when it is not needed as evidence."))


def keyset_view(keyset: Keyset, *, current: str, place: str) -> dict[str, Any]:
    """A keyset for programs."""
    return {
        "issuer": keyset.issuer,
        "version": keyset.version,
        "root_fingerprint": keyset.root_fingerprint,
        "handovers": [
            {
                "version": handover.version,
                "root_fingerprint": handover.root.thumbprint,
                "successor_fingerprint": handover.successor.thumbprint,
            }
            for handover in keyset.handovers
        ],
        "keys": [
            {
                "kid": key.kid,
                "valid_from": key.valid_from,
                "valid_until": key.valid_until,
                "signs": key.kid == current,
                "place": place if key.kid == current else None,
            }
            for key in keyset.keys
        ],
    }


def _root(data: Path, path: Path | None) -> Any:
    from tallystick.activation.keys import lifecycle
    from tallystick.activation.server.instance import ROOT_PASSPHRASE

    return lifecycle.load_root(data, path, passphrase=os.environ.get(ROOT_PASSPHRASE))


def _signer(data: Path) -> KeySigner:
    from tallystick.activation.keys import signing
    from tallystick.activation.server.instance import load_settings

    return signing.load_signer(data, load_settings(data).keys)
