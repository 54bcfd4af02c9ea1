"""What destroys asks and says what is lost; a certificate that changed is compared and pinned anew; an address is changed."""

import re
import shutil

import pytest

from support.adminpages import pages_of

pytestmark = pytest.mark.slow


@pytest.fixture
def site(world):
    bought = world.activation.buy("smartdriver=3")
    world.activation.start()
    world.admin("entitlement", "add", bought["entitlement_id"], "--activation", world.activation.url)
    world.roof = world.field_server("roof")
    world.admin("activate", "roof", "--line", f"{bought['lines'][0]['line']}=2")
    return world


@pytest.fixture
def page(site):
    with pages_of(site.admin.home) as page:
        yield page


def open_roof(page):
    page.see("/")
    device = re.search(r'name="device" value="([\w-]{43})"', page.text).group(1)
    page.see(f"/servers/{device}")
    return device


def left_to_plan(page):
    page.see("/plan")
    return int(re.search(r'data-label="Left to plan">([\d,]+)<', page.text).group(1))


def test_a_field_server_that_holds_licenses_is_not_removed_unasked_and_they_count_on(page):
    before = left_to_plan(page)
    device = open_roof(page)
    assert "It holds 2 licenses" in page.text
    page.send(f"/servers/{device}/remove")
    assert "Seen" in page.text
    assert "roof" in page.text, "it is there"
    page.send(f"/servers/{device}/remove", force="yes")
    page.see("/")
    assert "No field server yet" in page.text
    assert left_to_plan(page) == before == 1, "what it holds is not free"
    assert "Removed from the list, and not free" in page.text
    page.send("/plan/forget", device=device)
    assert left_to_plan(page) == 3


def test_adding_it_again_brings_it_back(page, site):
    device = open_roof(page)
    page.send(f"/servers/{device}/remove", force="yes")
    site.admin("add", site.roof.url, "--password-file", site.roof.password_file)
    page.see("/plan")
    assert "Removed from the list" not in page.text
    assert 'data-label="Held">2<' in page.text


def test_a_changed_certificate_is_shown_beside_the_pinned_one_and_pinned_by_a_person(page, site):
    device = open_roof(page)
    pinned = re.search(r"<dt>Pinned certificate</dt><dd><code>(SHA256:[^<]+)<", page.text).group(1)
    page.send(f"/servers/{device}/site", new_site="North")
    other = site.field_server("cellar", add=False).directory
    site.roof.stop()
    for name in ("tls.pem", "tls.key"):  # a new certificate on the same field server
        shutil.copy(other / name, site.roof.directory / name)
    site.roof.start()
    page.send("/drafts", data={"do": "refresh", "device": device})
    page.send(f"{page.at}/begin")
    page.wait()
    assert "certificate-changed" in page.text
    page.see(f"/servers/{device}")
    shown = re.search(r'name="shown" value="(SHA256:[^"]+)"', page.text).group(1)
    assert shown != pinned
    assert f"<dt>Pinned</dt><dd><code>{pinned}</code>" in page.text
    assert f"<dt>Shown now</dt><dd><code>{shown}</code>" in page.text
    page.send(f"/servers/{device}/pin", shown=pinned)
    assert "certificate-changed" in page.text, "another one than was compared is not pinned"
    page.see(f"/servers/{device}")
    page.send(f"/servers/{device}/pin", shown=shown)
    assert f"<dt>Pinned certificate</dt><dd><code>{shown}</code>" in page.text
    assert "Its certificate is another one now" not in page.text
    assert "North" in page.text
    page.send("/drafts", data={"do": "refresh", "device": device})
    page.send(f"{page.at}/begin")
    page.wait()
    assert "1 of 1 done" in page.text, "the password was kept"


def test_an_address_is_changed_only_to_the_pinned_certificate(page, site):
    device = open_roof(page)
    page.send(f"/servers/{device}/address", address="https://127.0.0.1:9")
    assert 'value="https://127.0.0.1:9"' in page.text
    assert "unreachable" in page.text
    other = site.field_server("cellar", add=False)
    page.send(f"/servers/{device}/address", address=other.url)
    assert "certificate-changed" in page.text
    before = site.roof.url
    site.roof.stop()
    site.roof.port = 0
    site.roof.start()
    page.send(f"/servers/{device}/address", address=site.roof.url)
    assert f"AS-P at {site.roof.url}" in page.text
    assert before not in page.text


def test_what_left_the_list_is_not_planned_again(page, site):
    device = open_roof(page)
    line = re.search(r"<code>([0-9A-Z]{8})</code>", page.text).group(1)
    page.send(f"/servers/{device}/remove", force="yes")
    site.activation.stop()
    site.field_server("cellar")
    page.see("/plan")
    other = re.search(r'name="device" value="([\w-]{43})"[^>]*aria-label="cellar"', page.text).group(1)
    page.send("/plan/assign", data={"line": line, "device": other, "quantity": "2", "do": "assign"})
    assert "not-enough" in page.text
    assert 'value="2"' in page.text
    page.send("/plan/assign", data={"line": line, "device": other, "quantity": "1", "do": "assign"})
    assert "not-enough" not in page.text
