"""Row 6 of the cases from the field: reached is reached; whose trouble it is is said, with its own next step."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from integration.administrator.test_proxies import Terminator, _make_certificate
from support.parties import small_disk
from support.proxy import Proxy
from tallystick import cli

pytestmark = pytest.mark.slow


@pytest.fixture
def small(world):
    """The activation server's data on a small disk of its own."""
    away = world.activation.directory.rename(world.path("away"))
    with small_disk(world.activation.directory, "4m") as disk:
        shutil.copytree(away, disk.path, dirs_exist_ok=True)
        yield disk
        world.activation.stop()


@pytest.fixture
def site(world):
    bought = world.activation.buy("smartdriver=9")
    world.activation.start()
    world.entitlement_id, world.line = bought["entitlement_id"], bought["lines"][0]["line"]
    world.admin("entitlement", "add", world.entitlement_id, "--activation", world.activation.url)
    world.roof = world.field_server("roof")
    return world


@pytest.fixture
def untrusted(site):
    """The same activation server behind a certificate that nobody vouches for."""
    _make_certificate(site.path("tls.pem"), site.path("tls.key"))
    with Terminator(site.activation.url, site.path("tls.pem"), site.path("tls.key")) as terminator:
        yield terminator.url


def says_nothing_of_a_cable(text):
    return not any(word in text for word in ("cable", "no route", "Check the address"))


def test_a_locked_database_is_the_activation_servers_trouble(site):
    with closing(sqlite3.connect(next(site.activation.directory.glob("*.sqlite")))) as other:
        other.execute("BEGIN EXCLUSIVE")
        rows = site.admin("activate", "roof", "--line", f"{site.line}=1", "--json", expect=4)
    (row,) = rows["field_servers"]
    assert row["code"] == "database-unavailable"
    assert "the activation server was reached" in row["detail"]
    assert "tallystick admin sync" in row["next_step"]
    assert says_nothing_of_a_cable(row["detail"] + row["next_step"])
    site.admin("sync")
    assert site.roof.held() == {site.line: 1}


def test_a_full_disk_is_the_activation_servers_trouble(small, site):
    small.fill()
    (row,) = site.admin("activate", "roof", "--line", f"{site.line}=1", "--json", expect=4)["field_servers"]
    assert row["code"] == "disk-full"
    assert "the activation server was reached" in row["detail"]
    assert "tallystick admin sync" in row["next_step"]
    assert says_nothing_of_a_cable(row["detail"] + row["next_step"])
    small.empty()
    site.admin("sync")
    assert site.roof.held() == {site.line: 1}


def test_a_certificate_that_is_not_trusted_is_called_that_by_device_administrator(site, untrusted):
    site.admin("entitlement", "add", site.entitlement_id, "--activation", untrusted, expect=3)
    assert "certificate-untrusted" in site.admin.stderr
    assert "self-signed" in site.admin.stderr
    assert says_nothing_of_a_cable(site.admin.stderr)


def test_and_by_the_commands_of_the_activation_server(site, untrusted):
    site.path("token.txt").write_text("a-token")
    words = ["activation", "lines", "--url", untrusted, "--token-file", str(site.path("token.txt"))]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 3
    assert "certificate-untrusted" in done.stderr
    assert says_nothing_of_a_cable(done.stderr)


def test_and_by_the_field_server_about_its_own_route(site, untrusted):
    edge = site.field_server("edge", "--activation", untrusted)
    seen = site.admin.servers()["edge"]
    assert edge.name == "edge"
    why = site.admin("route", "--json")["why"]
    assert "its certificate is not trusted there" in why, (why, seen)


def test_a_proxy_that_asks_for_a_password_is_not_a_missing_route(site):
    with Proxy(only="ann:four words") as proxy:
        site.admin("proxy", proxy.url)
        (row,) = site.admin("activate", "roof", "--line", f"{site.line}=1", "--json", expect=4)["field_servers"]
    assert row["code"] == "proxy-refused"
    assert "407" in row["detail"]
    assert "tallystick admin proxy" in row["next_step"]
    assert says_nothing_of_a_cable(row["detail"] + row["next_step"])
