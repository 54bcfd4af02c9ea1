"""``config check`` says good only to what works: it opens the database, and takes no list for a name and no name for a setting."""

import re
import socket
from pathlib import Path

import pytest

from support.activation import ISSUER
from support.served import Data
from tallystick.activation import settings

SOURCE = Path(settings.__file__).parents[1]


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path / "data").init()


def refused(data):
    done = data.run("config", "check", "--json")
    assert done.exit_code != 0, done.stdout
    return done.json


def write(data, text):
    with (data.path / "settings.toml").open("a", encoding="utf-8") as file:
        file.write(text)


def test_what_works_is_good(data):
    write(
        data,
        '[mail]\nhost = "127.0.0.1"\nsender = "Licenses <licenses@example.com>"\n'
        'recipients = ["ops@example.com", "root@localhost"]\n'
        '[webhooks]\nallow_private = ["10.1.0.0/16", "hooks.example.internal", "fd00::/8"]\n',
    )
    assert data.ok("config", "check") == {"good": True, "issuer": ISSUER, "unknown_variables": []}


def test_a_database_that_nobody_answers_at_is_not_good(data, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("TALLYSTICK_DATABASE", f"postgresql+psycopg://127.0.0.1:{port}/tally?connect_timeout=2")
    assert refused(data)["code"] == "database-unavailable"


def test_a_database_that_is_not_there_is_not_good_and_is_not_made(data):
    (data.path / "tallystick.sqlite").unlink()
    assert refused(data)["code"] == "database-missing"
    assert not (data.path / "tallystick.sqlite").exists()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[mail]\nhost = "127.0.0.1"\nsender = "licenses"\nrecipients = ["b@example.com"]\n', "mail.sender"),
        (
            '[mail]\nhost = "127.0.0.1"\nsender = "a@example.com"\nrecipients = ["b@example.com c@example.com"]\n',
            "mail.recipients",
        ),
        (
            '[mail]\nhost = "127.0.0.1"\nsender = "a@example.com"\nrecipients = ["b@example.com;c@example.com"]\n',
            "mail.recipients",
        ),
        ('[webhooks]\nallow_private = ["10.0.0.0/8 hooks.example.internal"]\n', "webhooks.allow_private"),
    ],
)
def test_what_cannot_be_meant_is_named(data, text, place):
    write(data, text)
    found = refused(data)
    assert (found["code"], found["expected"].partition(":")[0]) == ("settings-wrong", place)


def test_a_list_in_the_environment_that_was_read_as_one_name_is_named(data, monkeypatch):
    monkeypatch.setenv("TALLYSTICK_WEBHOOKS_ALLOW_PRIVATE", '["10.0.0.0/8", "hooks.example.internal"]')
    assert "webhooks.allow_private" in refused(data)["expected"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TALLYSTICK_WAITNG_DAYS", "TALLYSTICK_WAITING_DAYS"),
        ("TALLYSTICK_SMTP_HOST", "TALLYSTICK_MAIL_HOST"),
        ("TALLYSTICK_MAIL_RECIPIENT", "TALLYSTICK_MAIL_RECIPIENTS"),
    ],
)
def test_a_variable_that_means_nothing_is_named_with_the_nearest_that_does(data, monkeypatch, name, nearest):
    monkeypatch.setenv(name, "7")
    assert refused(data)["expected"] == f"{name}: {nearest} perhaps"


def test_every_variable_that_the_program_reads_is_known():
    named = {
        name for file in SOURCE.rglob("*.py") for name in re.findall(r'"(TALLYSTICK_[A-Z_]+)"', file.read_text("utf-8"))
    }
    known = {entry.variable for entry in settings.TABLE} | set(settings.OTHER_VARIABLES)
    assert named - {settings.ENVIRONMENT_PREFIX} - known == set()
