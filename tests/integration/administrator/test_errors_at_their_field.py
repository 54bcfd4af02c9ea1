"""What cannot be done is said where it was typed: on the page with the form, in its words, and what was typed stands there."""

import re

import pytest

from support.adminpages import pages_of
from support.adminsite import site_at
from tallystick.administrator.web.app import _FORMS

LINE_OF_A_SHELL = re.compile(r"tallystick (admin|fieldserver|activation)|(?<![\w-])--\w|/tmp/|\.sqlite")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with site_at(tmp_path_factory.mktemp("fields"), 1) as site:
        _, certificate = site.sell("smartdriver=8")
        site.admin("add", "--csv", site.csv())
        site.admin("entitlement", "add", certificate)
        yield site


@pytest.fixture(scope="module")
def page(site):
    with pages_of(site.home) as page:
        yield page


def main_of(page):
    text = page.text.partition('<main class="page"')[2].partition("</main>")[0]
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


# The form, what is typed, the heading of the page that it stands on, and what has to stand there again.
WRONG = [
    (
        "/add",
        {"address": "ftp://roof", "site": "North", "do": "show"},
        "Add field servers",
        ["ftp://roof", "North"],
    ),
    ("/add", {"do": "pin"}, "Add field servers", []),
    (
        "/plan/entitlement",
        {"entitlement": "EN-typed-wrong", "url": "https://a.example"},
        "Plan",
        ["EN-typed-wrong", "https://a.example"],
    ),
    ("/plan/entitlement", {"entitlement": ""}, "Plan", []),
    ("/route/proxy", {"proxy": "not a proxy", "proxy_user": "ana"}, "Route", ["not a proxy", "ana"]),
    ("/route/activation", {"url": "activation.example"}, "Route", ["activation.example"]),
    ("/drafts", {"do": "return"}, "Field servers", []),
    ("/sites", {"new_site": "Harbour"}, "Field servers", []),
    ("/add/found", {"password": "x"}, "Add field servers", []),
    ("/carry/take", {}, "What to carry", []),
    ("/carry/download", {}, "What to carry", []),
]


@pytest.mark.parametrize(
    ("path", "typed", "title", "kept"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_form_that_is_not_taken_is_shown_again_with_what_was_typed_and_why(page, path, typed, title, kept):
    page.see("/")
    answer = page.send(path, data=typed)
    assert 400 <= answer.status_code < 500
    main = main_of(page)
    assert f"<h1>{title}</h1>" in main
    assert 'role="alert"' in main
    for text in kept:
        assert f'value="{text}"' in main, text
    assert not LINE_OF_A_SHELL.search(main), LINE_OF_A_SHELL.search(main)


def test_a_quantity_keeps_its_line_its_ticks_and_its_number(page, site):
    page.see("/plan")
    line = re.search(r'name="line" value="([0-9A-Z]{8})"', page.text).group(1)
    device = re.search(r'name="device" value="([\w-]{43})"', page.text).group(1)
    page.send("/plan/assign", data={"line": line, "device": device, "quantity": "9000", "do": "assign"})
    main = main_of(page)
    assert 'value="9000"' in main
    assert re.search(rf'value="{device}"[^>]* checked', main)
    assert 'id="quantity-error"' in main
    assert not LINE_OF_A_SHELL.search(main), LINE_OF_A_SHELL.search(main)


def test_the_page_of_a_field_server_and_a_dry_run_keep_their_place(page, site):
    page.see("/")
    device = re.search(r'name="device" value="([\w-]{43})"', page.text).group(1)
    page.send(f"/servers/{device}/password", data={"password": "wrong"})
    assert "<h1>fs0000</h1>" in main_of(page)
    assert "password-wrong" in main_of(page)
    assert not LINE_OF_A_SHELL.search(main_of(page)), LINE_OF_A_SHELL.search(main_of(page))
    page.see(f"/servers/{device}")
    page.send("/drafts", data={"do": "return", "device": device})
    page.send(page.at, data={"end-ABCDEFGH": "many"})
    assert "<h1>Return licenses?</h1>" in main_of(page)


@pytest.mark.parametrize("path", [path for path, _ in _FORMS if "{" not in path])
def test_the_address_of_a_form_leads_to_its_page_and_is_never_bare(page, path):
    answer = page.see(path)
    assert answer.status_code == 200
    assert "<h1>" in page.text


def test_no_page_has_a_line_of_a_shell(page):
    for path in (
        "/",
        "/add",
        "/plan",
        "/operations",
        "/carry",
        "/carry/codes",
        "/carry/read",
        "/route",
        "/report",
        "/vendors",
    ):
        page.see(path)
        assert not LINE_OF_A_SHELL.search(main_of(page)), (path, LINE_OF_A_SHELL.search(main_of(page)))
