"""What goes wrong on site: each has its code, its next step, and loses nothing."""

import concurrent.futures
import random
import shutil
import socket
import ssl
import stat
import threading
import time

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def site(world):
    bought = world.activation.buy("smartdriver=9")
    world.activation.start()
    world.line = bought["lines"][0]["line"]
    world.admin("entitlement", "add", bought["entitlement_id"], "--activation", world.activation.url)
    world.roof = world.field_server("roof")
    return world


def test_a_changed_certificate_is_refused_with_both_fingerprints_and_nothing_is_sent(site):
    site.admin("activate", "roof", "--line", f"{site.line}=1")
    site.roof.stop()
    other = site.field_server("cellar", add=False).directory
    listener = Eavesdropper(site.roof.port, (other / "tls.pem", other / "tls.key"))
    with listener:
        site.admin("sync", expect=1)
        error = site.admin.stderr
        site.admin("add", site.roof.url, "--password-file", site.roof.password_file, expect=1)
    assert "certificate-changed" in error
    assert site.roof.made["certificate_fingerprint"] in error
    assert "SHA256:" in error.replace(site.roof.made["certificate_fingerprint"], "")
    assert listener.heard == b""
    assert site.admin.servers()["roof"]["reachable"] is False
    site.roof.start()
    site.admin("sync")


class Eavesdropper:
    """Somebody in between, with a certificate of their own, who writes down what is said to them."""

    def __init__(self, port, files):
        self.heard = b""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*files)
        self.listener = socket.create_server(("127.0.0.1", port))
        self.thread = threading.Thread(target=self.listen)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def listen(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            try:
                with self.context.wrap_socket(plain, server_side=True) as secured:
                    secured.settimeout(2)
                    self.heard += secured.recv(65536)
            except OSError:
                plain.close()


def test_a_wrong_password_is_refused_slowed_down_and_adds_nothing(site):
    cellar = site.field_server("cellar", add=False)
    wrong = site.path("wrong.txt")
    wrong.write_text("not the password")
    site.admin("add", cellar.url, "--password-file", wrong, expect=1)
    assert "password-wrong" in site.admin.stderr
    site.admin("add", cellar.url, "--password-file", wrong, expect=1)
    assert "too-many-tries" in site.admin.stderr
    assert "seconds" in site.admin.stderr
    assert set(site.admin.servers()) == {"roof"}


def test_only_the_expected_fingerprint_is_pinned(site):
    cellar = site.field_server("cellar", add=False)
    words = ("add", cellar.url, "--password-file", cellar.password_file, "--fingerprint")
    site.admin(*words, site.roof.made["certificate_fingerprint"], expect=1)
    assert "certificate-changed" in site.admin.stderr
    added = site.admin(*words, cellar.made["certificate_fingerprint"], "--json")
    assert (added["fingerprint"], added["added"]) == (cellar.made["certificate_fingerprint"], True)
    assert site.admin(*words, cellar.made["certificate_fingerprint"], "--json")["added"] is False


def test_an_unreachable_one_does_not_stop_the_others_and_is_named(site):
    site.field_server("cellar")
    site.admin("assign", f"{site.line}=1", "--all")
    site.roof.stop()
    done = site.admin("activate", "--all", "--json", expect=4)
    results = {row["name"]: row["result"] for row in done["field_servers"]}
    assert results == {"roof": "unreachable", "cellar": "done"}
    assert "roof: unreachable" in site.admin.stderr
    assert "Next: " in site.admin.stderr
    site.roof.start()
    site.admin("activate", "--all")
    assert site.activation.lines()[site.line]["held"] == 2


def test_an_activation_server_that_is_down_leaves_everything_for_the_next_sync(site):
    site.activation.stop()
    site.admin("activate", "roof", "--line", f"{site.line}=2", expect=4)
    assert site.admin("route", "--json")["route"] == "offline"
    site.activation.start()
    site.admin("sync")
    assert site.roof.held() == {site.line: 2}


def test_a_sync_without_a_route_says_what_waits_and_asks_for_nothing(site):
    site.activation.stop()
    site.admin("activate", "roof", "--line", f"{site.line}=2", expect=4)
    before = site.roof.directory / "vault-a", site.roof.directory / "vault-b"
    seen = [path.read_bytes() for path in before]
    for words in (["sync"], ["sync", "roof"]):
        site.admin(*words, expect=4)
        assert "roof: carry" in site.admin.stderr
    assert [path.read_bytes() for path in before] == seen
    site.activation.start()
    site.admin("sync")
    assert site.roof.held() == {site.line: 2}


def test_two_syncs_at_once_do_no_harm(site):
    cellar = site.field_server("cellar")
    site.admin("assign", f"{site.line}=2", "--all")
    site.admin.route = "offline"
    site.admin("activate", "--all", expect=4)
    site.admin.route = None
    running = [site.admin.start("sync") for _ in range(3)]
    for process in running:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    assert site.roof.held() == cellar.held() == {site.line: 2}
    assert site.admin("status", "--json")["open"] == []
    site.activation.verify()


def test_a_sync_that_is_killed_at_any_moment_is_resumed_by_the_next(site):
    cellar = site.field_server("cellar")
    dice = random.Random(7)
    for round_ in range(3):
        goal = ["activate", "--all", "--line", f"{site.line}=2"] if round_ % 2 == 0 else ["return", "--all"]
        for _ in range(2):
            process = site.admin.start(*goal)
            time.sleep(dice.uniform(0.25, 0.9))
            process.kill()
            process.communicate()
        site.admin("sync", expect=(0, 4))
        site.admin(*goal)
        expected = {site.line: 2} if round_ % 2 == 0 else {}
        assert site.roof.held() == cellar.held() == expected
    site.admin("return", "--all")
    site.activation.verify()
    row = site.activation.lines()[site.line]
    assert (row["available"], row["returning"]) == (9, 0)


def test_the_data_directory_is_its_owners_alone(site):
    site.admin("status")
    assert stat.S_IMODE(site.admin.home.stat().st_mode) == 0o700
    for file in site.admin.home.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_first_commands_at_once_make_one_database(site):
    fresh = site.admin.__class__(site.path("fresh-home"))
    running = [fresh.start("status", "--json") for _ in range(4)]
    for process in running:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error


def test_an_address_that_is_no_field_server_is_unreachable_not_a_traceback(site):
    def answer(listener):
        with listener.accept()[0] as talk:
            talk.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")

    with socket.create_server(("127.0.0.1", 0)) as plain, concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(answer, plain)
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        site.admin("add", url, "--password-file", site.roof.password_file, expect=3)
    assert "unreachable" in site.admin.stderr
    site.admin("add", "http://127.0.0.1:1", "--password-file", site.roof.password_file, expect=2)
    assert "usage" in site.admin.stderr


def test_a_restored_field_server_is_found_out_and_ends_as_asked_or_refused(site):
    site.admin("activate", "roof", "--line", f"{site.line}=1")
    site.roof.stop()
    backup = site.path("backup")
    shutil.copytree(site.roof.directory, backup)
    site.roof.start()
    site.admin("activate", "roof", "--line", f"{site.line}=2")
    site.admin("return", "roof")
    site.roof.stop()
    shutil.rmtree(site.roof.directory)
    shutil.copytree(backup, site.roof.directory)
    site.roof.start()
    site.admin("refresh", "roof", expect=(0, 1, 4))
    site.activation.verify()
