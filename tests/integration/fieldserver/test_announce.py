"""A field server that announces itself is found on the same machine, and leaves again when it ends."""

import pytest

from tallystick.administrator.network.discovery import find_field_servers
from tallystick.fieldserver.announce import announce

pytestmark = pytest.mark.slow


@pytest.fixture
def loopback():
    return ["127.0.0.1"]


def test_it_is_found_with_its_address_and_what_it_says_of_itself(loopback):
    end = announce(device_id="d" * 43, name="Röof 1", kind="AS-P", fingerprint="SHA256:x", host="127.0.0.1", port=8443)
    try:
        found = [one for one in find_field_servers(seconds=2, interfaces=loopback) if one.device_id == "d" * 43]
    finally:
        end()
    (one,) = found
    assert (one.name, one.kind, one.address, one.fingerprint) == (
        "R-of-1",
        "AS-P",
        "https://127.0.0.1:8443",
        "SHA256:x",
    )
