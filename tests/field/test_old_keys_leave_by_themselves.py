"""Row 14: a keyset after eight years of rotation every 90 days still has room, and every field server can follow it."""

from tallystick.activation.keys import lifecycle, signing
from tallystick.activation.settings import KeySettings
from tallystick.protocol import keys
from tallystick.protocol.envelope import PrivateKey, open_envelope
from tallystick.protocol.messages import GRANT

DAY = 86_400
NOW = 1_800_000_000
ROOT = PrivateKey(b"r" * 32)


def test_eight_years_of_rotation_every_90_days_keep_two_years_of_keys(tmp_path):
    signer = lifecycle.create_keys(tmp_path, issuer="Maker", root_seed=b"r" * 32, signing_seed=b"1" * 32, now=NOW)
    first, signed = signer.keyset, []
    for number in range(1, 8 * 366 // 90 + 1):
        now = NOW + number * 90 * DAY
        signed.append((now - 1, signer.sign(GRANT, b"{}")))
        seed = number.to_bytes(32, "big")
        keyset, _ = lifecycle.rotate(tmp_path, ROOT, KeySettings(), seed=seed, now=now, overlap_seconds=30 * DAY)
        signer = signing.load_signer(tmp_path)
        assert len(keyset.keys) <= 12
        assert keyset.keys[-1].kid == signer.key.public.thumbprint
        # Whoever was away all the time takes it at once: the root is the same, and the version is higher.
        assert keys.parse_successor(open_envelope(keyset.compact.encode()), first) == keyset
        for at, old in signed:  # what was signed in the last two years is still believed
            if now - at < 2 * 365 * DAY:
                keyset.check_issued(keyset.verify(open_envelope(old.encode())), issuer="Maker", issued_at=at)
