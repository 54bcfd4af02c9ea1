"""No address that a registry calls special is spoken to, whatever this Python's library thinks of it."""

import pytest

from tallystick.activation.outbound.safe_post import TargetError, check_url

SPECIAL = [
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("192.0.0.192", "192.0.0.8", "192.0.2.1", "198.18.0.1", "203.0.113.1", "240.0.0.1", "255.255.255.255"),
    *("[::1]", "[::]", "[fc00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]"),
    *("[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "[64:ff9b:1::1]", "[2002:a00:1::]", "[2001::1]", "[100::1]"),
]


@pytest.mark.parametrize("host", SPECIAL)
def test_a_special_address_is_refused(host):
    with pytest.raises(TargetError):
        check_url(f"https://{host}/", ())


@pytest.mark.parametrize("host", ["1.1.1.1", "[2606:4700::1111]"])
def test_a_public_one_is_taken(host):
    check_url(f"https://{host}/", ())
