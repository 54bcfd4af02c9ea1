"""``public_url``: scheme and host, and nothing that would send people elsewhere."""

import pytest

from tallystick.activation.settings import SettingsError, parse_settings


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("https://licenses.example.com", "https://licenses.example.com"),
        ("https://licenses.example.com/", "https://licenses.example.com"),
        ("http://10.0.0.7:8470", "http://10.0.0.7:8470"),
        ("https://[2001:db8::7]:8443", "https://[2001:db8::7]:8443"),
    ],
)
def test_an_address_without_a_path_is_read(said, read):
    assert parse_settings({"issuer": "Maker", "public_url": said}).public_url == read
    assert parse_settings({"issuer": "Maker"}, {"TALLYSTICK_PUBLIC_URL": said}).public_url == read


@pytest.mark.parametrize(
    "said",
    [
        "licenses.example.com",
        "javascript:alert(1)",
        "https://a.example/portal",
        "https://a@b.example",
        "https://a.example?x",
        "https://a b",
        "",
    ],
)
def test_anything_else_is_refused_by_its_name(said):
    with pytest.raises(SettingsError, match="public_url"):
        parse_settings({"issuer": "Maker", "public_url": said})


def test_without_it_there_is_none():
    assert parse_settings({"issuer": "Maker"}).public_url is None
