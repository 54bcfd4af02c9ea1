"""The pages over real sockets, without JavaScript: the gate, every form, and every kind of bad input with its sentence."""

import re
import zipfile
from io import BytesIO

import pytest

from support.adminsite import site_at
from support.pagereader import PageReader
from tallystick.protocol.tallyfile import parse_chunks


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with site_at(tmp_path_factory.mktemp("web"), 4) as site:
        site.bought, site.certificate = site.sell("smartdriver=10", "personal-dashboards=2")
        site.link = site.web()
        site.browser = PageReader(site.link)
        site.browser.enter()
        yield site
        site.browser.close()


@pytest.fixture
def browser(site):
    site.browser.see("/add")
    return site.browser


def devices(browser):
    browser.see("/")
    return dict(re.findall(r'name="device" value="([^"]+)" aria-label="([^"]+)"', browser.text))


@pytest.fixture
def pinned(site, browser):
    """The field servers, added already, whichever tests of this file another worker has."""
    if not devices(browser):
        site.admin("add", "--csv", site.csv())
    return devices(browser)


def test_a_stranger_sees_nothing_and_the_link_opens_once(site):
    stranger = PageReader(site.link)
    assert stranger.see("/").status_code == 403
    assert "Not this browser" in stranger.text
    assert stranger.enter().status_code == 403, "the link was used"
    assert stranger.send("/drafts", do="return").status_code == 403
    stranger.close()


def test_another_host_name_is_refused_before_anything_is_looked_at(site, browser):
    answer = browser.client.get("/", headers={"Host": "rebound.example"})
    assert answer.status_code == 403
    assert "rebound.example" in answer.text


def test_a_form_without_its_token_or_of_another_page_changes_nothing(browser):
    assert browser.client.post("/route/force", data={"route": "offline"}).status_code == 422
    answer = browser.client.post(
        "/route/force", data={"route": "offline", "csrf": browser.csrf}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 422
    answer = browser.client.post(
        "/route/force", data={"route": "offline", "csrf": browser.csrf}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 422
    browser.see("/route")
    assert "set by you" not in browser.text


def test_every_page_has_a_strict_policy_and_nothing_inline(browser):
    for path in ("/", "/add", "/plan", "/carry", "/route", "/report", "/operations"):
        answer = browser.see(path)
        assert answer.status_code == 200, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son[a-z]+=", answer.text), path


def test_a_csv_file_is_taken_with_fingerprints_shown_first(site, browser):
    browser.send("/add", data={"do": "show"}, files={"csv": ("site.csv", site.csv().read_bytes())})
    assert "Compare the fingerprints" in browser.text
    assert browser.text.count("SHA256:") == 4
    assert not devices(browser), "nothing is added before it is pinned"
    number = browser.at.rpartition("/")[2]
    addresses = site.members["addresses"]
    answer = browser.client.post(f"/add/{number}", data={"csrf": browser.csrf, "address": addresses})
    assert "4 of 4 added" in answer.text
    assert len(devices(browser)) == 4
    assert "North" in browser.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "1 to 10000 field servers"),
        (b"name,address,password\na,https://127.0.0.1:1,\n", "a password in row 2"),
        (b"name,address,password\na,http://127.0.0.1:1,p\n", "an HTTPS address"),
        (b"address,password\nhttps://h,p\nhttps://h,q\n", "each address once"),
        (b"\xff\xfe\x00", "a CSV file in UTF-8"),
        (b'address,password\n"https://h,p\n', "a CSV file"),
    ],
)
def test_a_bad_csv_file_is_refused_whole_with_its_row(browser, content, says):
    answer = browser.send("/add", data={"do": "pin"}, files={"csv": ("site.csv", content)})
    assert answer.status_code == 422
    assert says in answer.text


def test_a_plan_says_where_a_product_does_not_apply_and_keeps_to_what_was_bought(site, browser, pinned):
    browser.send("/plan/entitlement", files={"certificate": ("c.tally", site.certificate.read_bytes())})
    line = re.search(r'href="/plan\?line=([0-9A-Z]+)"[^>]*><bdi>Personal', browser.text).group(1)
    browser.see(f"/plan?line={line}")
    assert "For AS-P, Edge Server, not for AS-B" in browser.text
    every = list(pinned)
    answer = browser.send("/plan/assign", data={"device": every, "line": line, "quantity": "1", "do": "assign"})
    assert "kind-mismatch" in answer.text
    fit = re.findall(r'name="device" value="([^"]+)" aria-label="[^"]+">', browser.see(f"/plan?line={line}").text)
    answer = browser.send("/plan/assign", data={"device": fit, "line": line, "quantity": "1", "do": "assign"})
    assert "not-enough" in answer.text, "three field servers, two licenses"
    answer = browser.send("/plan/assign", data={"device": fit[:1], "line": line, "quantity": "x", "do": "assign"})
    assert "quantity-wrong" in answer.text


def test_an_operation_on_nothing_and_a_plan_that_is_not_there_are_told(browser, pinned):
    assert "at least one field server ticked" in browser.send("/drafts", do="return").text
    (device, *_) = pinned
    answer = browser.send("/drafts", data={"do": "activate", "device": device})
    assert "Assign licenses first" in answer.text


def test_activation_and_return_offline_with_files_on_a_stick(site, browser, pinned):
    every = pinned
    browser.see("/plan")
    line = re.search(r'href="/plan\?line=([0-9A-Z]+)"[^>]*><bdi>SmartDriver', browser.text).group(1)
    browser.send("/plan/assign", data={"device": list(every), "line": line, "quantity": "2", "do": "assign"})
    browser.send("/drafts", data={"do": "activate", "everyone": "yes"})
    assert "nothing was sent yet" in browser.text
    assert browser.text.count('good">will likely be granted<') == 4
    browser.send(f"{browser.at}/begin")
    assert "To be carried: 4 field servers" in browser.wait()

    # onto the stick, up, and back from the stick
    browser.send("/carry/stick", stick=str(site.sticks))
    assert "4 messages are on STICK" in browser.text
    site.upload(site.sticks / "requests-to-carry.tally", site.sticks / "replies.tally")
    browser.see("/carry")
    assert "Take in 1 file from stick STICK" in browser.text
    browser.send("/carry/from-stick", stick=str(site.sticks))
    assert "4 of 4 done" in browser.wait()
    browser.send("/carry/from-stick", stick=str(site.sticks))
    assert "4 of 4 done" in browser.wait(), "the same file twice"

    # a return of one of the two, and what would be refused
    browser.send("/drafts", data={"do": "return", "everyone": "yes"})
    browser.send(browser.at, data={f"end-{line}": "1"})
    assert browser.text.count('good">will likely be returned<') == 4
    browser.send(f"{browser.at}/begin")
    assert "To be carried: 4" in browser.wait()
    saved = browser.send("/carry/download")
    assert saved.headers["content-disposition"].endswith('.tally"')
    again = browser.send("/carry/download")
    assert [line.envelope.compact for line in parse_chunks([saved.content])] == [
        line.envelope.compact for line in parse_chunks([again.content])
    ], "a lost file is saved again, the same"
    (site.directory / "up.tally").write_bytes(saved.content)
    site.upload(site.directory / "up.tally", site.directory / "down.tally")
    browser.send("/carry/take", files={"files": ("down.tally", (site.directory / "down.tally").read_bytes())})
    assert "4 of 4 done" in browser.wait() or "To be carried" in browser.text
    browser.see("/carry")
    assert "returning since" in browser.text
    saved = browser.send("/carry/download")
    (site.directory / "up.tally").write_bytes(saved.content)
    site.upload(site.directory / "up.tally", site.directory / "credits.tally")
    browser.send("/carry/take", files={"files": ("credits.tally", (site.directory / "credits.tally").read_bytes())})
    browser.wait()
    assert site.lines()["smartdriver"]["held"] == 4


def test_a_stick_that_was_pulled_out_is_told_and_nothing_was_written(browser):
    answer = browser.send("/carry/stick", stick="/media/gone")
    assert answer.status_code == 404
    assert "is gone; nothing was written" in answer.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no tally file at all\n", "envelope-malformed"),
        (b"", "There was nothing in it"),
        (b"\x89PNG\r\n\x1a\n", "not-text"),
    ],
)
def test_a_file_that_is_none_is_handed_back_with_its_line(browser, content, says):
    browser.send("/carry/take", files={"files": ("odd.tally", content)})
    assert says in browser.text or "envelope-malformed" in browser.text


@pytest.mark.slow
def test_a_file_of_another_site_is_told_with_what_to_do(tmp_path, site, browser):
    with site_at(tmp_path, 1) as other:
        other.admin("add", "--csv", other.csv())
        other.directory.joinpath("activation").symlink_to(site.activation)
        other.admin("entitlement", "add", site.certificate)
        other.admin("activate", "--all", "--line", "smartdriver=1", expect=4)
        other.admin("export", tmp_path / "theirs.tally")
    browser.send("/carry/take", files={"files": ("theirs.tally", (tmp_path / "theirs.tally").read_bytes())})
    assert "<code>device-wrong</code>" in browser.text
    assert "add it (the page Add)" in browser.text


def test_the_report_as_page_csv_pdf_and_folder_with_receipts(site, browser):
    browser.see("/report?site=North")
    assert "smartdriver" in browser.text
    assert browser.client.get("/report.csv").content.startswith(b"\xef\xbb\xbfsite,name,kind")
    pdf = browser.client.get("/report.pdf?site=North")
    assert pdf.content.startswith(b"%PDF-")
    assert 'filename="licenses-north-' in pdf.headers["content-disposition"]
    with zipfile.ZipFile(BytesIO(browser.client.get("/report.zip").content)) as archive:
        names = archive.namelist()
        receipts = [name for name in names if "/receipts/" in name and "keys" not in name]
        assert len(receipts) == 4
        assert any(name.endswith("receipts/keys.tally") for name in names)


def test_the_route_is_found_explained_forced_and_a_proxy_is_checked(browser):
    browser.see("/route")
    assert "so files are carried" in browser.text or "Everybody is being asked" in browser.text
    browser.send("/route/force", route="offline")
    assert "route set to offline" in browser.text
    browser.send("/route/force", route="")
    assert "route set to offline" not in browser.text
    assert browser.send("/route/proxy", proxy="socks://x").status_code == 422
    browser.send("/route/proxy", proxy="http://proxy.example:3128")
    assert 'value="http://proxy.example:3128"' in browser.text
    browser.send("/route/proxy", proxy="")


def test_one_field_server_its_site_its_password_and_its_leaving(browser, pinned):
    device, *_ = pinned
    browser.see(f"/servers/{device}")
    assert "Pinned certificate" in browser.text
    assert "an earlier release set it up" in browser.text  # it does not say how it comes to its root
    browser.send(f"/servers/{device}/site", new_site="<b>Roof</b>")
    assert "&lt;b&gt;Roof" in browser.text
    assert browser.send(f"/servers/{device}/password", password="wrong").status_code in {401, 422}
    assert "password-wrong" in browser.text
    browser.see("/servers/nobody")
    assert "not-found" in browser.text

    # scrapping it: the dry run says that it is for good
    browser.see(f"/servers/{device}")
    assert "Take out of service for good…" in browser.text
    browser.send("/drafts", data={"do": "out-of-service", "device": device})
    assert "For good: this cannot be undone" in browser.text
    assert "Take out of service for good: begin" in browser.text


def test_a_page_that_was_forgotten_says_so(browser):
    assert "begin again from the list" in browser.see("/drafts/9999").text
    assert browser.see("/operations/9999").status_code == 404


def test_one_that_is_not_there_one_with_a_wrong_password_and_a_changed_certificate_are_each_told(site, browser):
    *_, first, second = site.members["addresses"]
    rows = (
        "address,password,fingerprint\nhttps://127.0.0.1:9,p,\n"
        f"{first},wrong,\n{second},{site.members['password']},SHA256:another\n"
    )
    browser.send("/add", data={"do": "pin"}, files={"csv": ("site.csv", rows.encode())})
    assert "3 did not work" in browser.text
    for code in ("unreachable", "password-wrong", "certificate-changed"):
        assert f"<code>{code}</code>" in browser.text
