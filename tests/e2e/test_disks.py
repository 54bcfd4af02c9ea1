"""Disks that are full or read-only, at every party and every write, and commands that die while they set up: each says
what it is, nothing is half-done, and with room again the same command goes on.

The small disks are of their own (tmpfs), which needs root; elsewhere these tests are skipped, and the limit on the size
of files, which needs nothing, stands in for them.
"""

import random
import subprocess
import time
from functools import partial

import pytest

from support.judge import Books
from support.parties import COMMAND, TRACEBACK, Activation, FieldServer, Technician, run, small_disk, surroundings
from support.tap import lines_of

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path):
    """An activation server and a field server that wants something, and a disk for whoever is tested."""
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.stop()


class Site:
    def __init__(self, directory):
        self.directory = directory
        self.processes = []

    def stop(self):
        for process in self.processes:
            process.stop()

    def activation(self, place):
        made = Activation(place / "activation")
        made.make()
        self.bought = made.buy("connected-devices=100")
        self.line = self.bought["lines"][0]["line"]
        made.start()
        self.processes.append(made)
        return made

    def field_server(self, place, name="roof"):
        (place / "fs").mkdir(exist_ok=True)
        made = FieldServer(place / "fs" / name)
        made.make()
        made.start()
        self.processes.append(made)
        return made

    def technician(self, home, activation, *servers):
        made = Technician(home)
        for server in servers:
            made.add(server)
        made("entitlement", "add", self.bought["entitlement_id"], "--activation", activation.url)
        return made


def test_an_activation_server_on_a_full_disk_refuses_whole_and_goes_on_when_there_is_room(site, tmp_path):
    with small_disk(tmp_path / "disk", "4m") as disk:
        activation = site.activation(disk.path)
        server = site.field_server(tmp_path)
        technician = site.technician(tmp_path / "home", activation, server)
        disk.fill()
        before = Books(activation.directory).rows()
        for _ in range(3):
            technician("activate", "roof", "--line", f"{site.line}=3", expect=(1, 4))
        message = server.call("GET", "/v1/outbox")[2]
        codes = set()
        for _ in range(4):
            status, _, problem = activation.call("POST", "/v1/messages", message, {"Accept": "application/json"})
            codes.add((status, problem["code"] if status != 200 else "taken"))
        reply, up = tmp_path / "reply.tally", tmp_path / "up.tally"
        up.write_bytes(message)
        said = activation.command("message", up, "-o", reply, expect=(1, 3))
        assert codes == {(507, "disk-full")}, codes
        assert "disk-full" in said.err
        assert not reply.exists()
        assert Books(activation.directory).rows() == before
        assert activation.call("GET", "/healthz")[0] == 200
        disk.empty()
        technician("sync")
        assert server.held() == {site.line: 3}
        activation.verify()
        assert TRACEBACK not in activation.log.read_text()
        site.stop()
        site.processes.clear()


def test_an_activation_server_on_a_read_only_disk_says_so_and_goes_on_when_it_is_mended(site, tmp_path):
    with small_disk(tmp_path / "disk", "4m") as disk:
        activation = site.activation(disk.path)
        server = site.field_server(tmp_path)
        technician = site.technician(tmp_path / "home", activation, server)
        activation.stop()
        assert disk.set_writable(is_writable=False)
        up = tmp_path / "up.tally"
        technician("activate", "roof", "--line", f"{site.line}=3", expect=4)
        technician("export", up)
        for words in (["message", up, "-o", tmp_path / "reply.tally"], ["declare-lost", "roof", "--reason", "burnt"]):
            said = activation.command(*words, expect=1)
            assert "disk-failed" in said.err or "not-found" in said.err, said.err
        assert not (tmp_path / "reply.tally").exists()
        assert disk.set_writable(is_writable=True)
        activation.start()
        technician("sync")
        assert server.held() == {site.line: 3}
        activation.verify()
        site.stop()
        site.processes.clear()


def test_a_technician_on_a_full_or_read_only_disk_is_told_and_goes_on_with_the_next_sync(site, tmp_path):
    activation, server = site.activation(tmp_path), site.field_server(tmp_path)
    with small_disk(tmp_path / "disk", "1m") as disk:
        technician = site.technician(disk.path / "home", activation, server)
        disk.fill()
        for words in (["activate", "roof", "--line", f"{site.line}=2"], ["sync"], ["return", "roof"]):
            said = technician(*words, expect=(0, 1, 4))
            assert said.code == 0 or "disk-" in said.err, said.err
        disk.empty()
        technician("activate", "roof", "--line", f"{site.line}=2")
        assert disk.set_writable(is_writable=False)
        for words in (["activate", "roof", "--line", f"{site.line}=1"], ["sync"], ["servers"]):
            said = technician(*words, expect=1)
            assert "disk-failed" in said.err, said.err
        assert disk.set_writable(is_writable=True)
        technician("sync")
        technician("return", "roof")
        assert server.held() == {}
        assert activation.lines()[site.line]["available"] == 100


def test_a_full_stick_keeps_the_old_file_whole_and_never_half_of_a_new_one(site, tmp_path):
    activation, server = site.activation(tmp_path), site.field_server(tmp_path)
    technician = site.technician(tmp_path / "home", activation, server)
    technician("activate", "roof", "--line", f"{site.line}=1")
    with small_disk(tmp_path / "stick", "256k") as disk:
        file = disk.path / "file.tally"
        file.write_text("# an older file\n")
        activation.stop()
        technician("activate", "roof", "--line", f"{site.line}=2", expect=4)
        disk.fill()
        up = tmp_path / "up.tally"
        technician("export", up)
        assert "disk-full" in technician("export", file, expect=1).err
        assert "disk-full" in server.command("outbox", "-o", file, expect=1).err
        assert "disk-full" in activation.command("message", up, "-o", file, expect=1).err
        words = ("entitlement", "certificate", site.bought["entitlement_id"], "-o", file)
        assert "disk-full" in activation.command(*words, expect=1).err
        assert file.read_text() == "# an older file\n"
        assert sorted(path.name for path in disk.path.iterdir()) == ["ballast", "file.tally"]
        disk.empty()
        activation.command("message", up, "-o", file)  # taken before, answered again
        technician("import", file)
        assert server.held() == {site.line: 2}


@pytest.mark.parametrize("limit", [0, 60_000, 4096, 20_000, 110_000, 200_000])
def test_whatever_write_of_a_command_finds_no_room_nothing_is_half_done(site, tmp_path, limit):
    """At every size of file at which the room may end: the database's, its log's, a reply's, a vault's."""
    activation, server = site.activation(tmp_path), site.field_server(tmp_path)
    technician = site.technician(tmp_path / "home", activation, server)
    activation.starve(limit)
    server.starve(limit)
    said = technician("activate", "roof", "--line", f"{site.line}=5", expect=(0, 1, 4))
    assert said.code == 0 or ("disk-" in said.err and "Next:" in said.err), said.err
    activation.starve(None)
    server.starve(None)
    process = technician.launch("return", "roof", preexec_fn=lambda: limit_files(limit))
    _, errors = process.communicate(timeout=180)
    assert process.returncode in {0, 1, 4}
    assert TRACEBACK not in errors.decode()
    assert "invariant" not in errors.decode()
    technician("sync")
    technician("return", "roof")
    assert server.held() == {}
    assert activation.lines()[site.line]["available"] == 100
    activation.verify()
    assert Books(activation.directory).rows()["incidents"] == []


def limit_files(size):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


INITS = {
    "activation": ["activation", "init", "--issuer", "Example Controls"],
    "fieldserver": [
        "fieldserver",
        "init",
        "--kind",
        "AS-P",
        "--name",
        "roof",
        "--host-id",
        "host-roof",
        "--trust-first",
    ],
}


@pytest.mark.parametrize("party", INITS)
def test_an_init_that_is_killed_or_finds_no_room_can_be_run_again(tmp_path, party):
    dice = random.Random(party)
    words = [*INITS[party], "--data", str(tmp_path / "data")]
    for attempt in range(6):
        size = dice.choice((None, 0, 1000, 5000, 100_000)) if attempt % 2 else None
        process = subprocess.Popen(
            [*COMMAND, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=surroundings(),
            preexec_fn=None if size is None else partial(limit_files, size),  # noqa: PLW1509 - no threads here
        )
        if size is None:
            time.sleep(dice.uniform(0.2, 0.9))
            process.kill()
        _, errors = process.communicate(timeout=180)
        told = errors.decode()
        assert process.returncode == -9 or TRACEBACK not in told, told
        if process.returncode == 1:
            assert "disk-" in told or "already-initialised" in told, told
    said = run(*words, expect=(0, 1))
    assert said.code == 0 or "already-initialised" in said.err
    status = ["activation", "verify"] if party == "activation" else ["fieldserver", "status"]
    run(*status, "--data", tmp_path / "data")


def test_two_inits_at_once_make_one_party_and_the_other_says_so(tmp_path):
    for party, options in INITS.items():
        words = [*COMMAND, *options, "--data", str(tmp_path / party)]
        both = [
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=surroundings())
            for _ in range(2)
        ]
        ends = [(process.communicate(timeout=180)[1].decode(), process.returncode) for process in both]
        assert sorted(code for _, code in ends) == [0, 1], ends
        assert "already-initialised" in next(told for told, code in ends if code)


def test_the_same_file_uploaded_twice_at_once_is_taken_once_and_answered_with_the_same_bytes(site, tmp_path):
    activation, server = site.activation(tmp_path), site.field_server(tmp_path)
    technician = site.technician(tmp_path / "home", activation, server)
    activation.stop()
    technician("activate", "roof", "--line", f"{site.line}=7", expect=4)
    up = tmp_path / "up.tally"
    technician("export", up)
    activation.start()
    words = [*COMMAND, "activation", "message", str(up), "--data", str(activation.directory), "-o"]
    replies = [tmp_path / f"reply-{number}.tally" for number in range(3)]
    running = [
        subprocess.Popen([*words, str(reply)], stdout=subprocess.DEVNULL, env=surroundings()) for reply in replies
    ]
    status, _, answered = activation.call("POST", "/v1/messages", up.read_bytes())
    assert [process.wait(180) for process in running] == [0, 0, 0]
    assert status == 200
    assert len({tuple(lines_of(reply.read_bytes())) for reply in replies}) == 1
    assert lines_of(answered) == lines_of(replies[0].read_bytes())[1:]
    row = activation.lines()[site.line]
    assert (row["held"], row["available"]) == (7, 93)

    # And delivered in three ways at once, beside the agent.
    words = [*COMMAND, "fieldserver", "deliver", str(replies[0]), "--data", str(server.directory)]
    running = [subprocess.Popen(words, stdout=subprocess.DEVNULL, env=surroundings()) for _ in range(2)]
    running.append(technician.launch("import", str(replies[1])))
    status, _, body = server.call("POST", "/v1/inbox", replies[2].read_bytes())
    assert status == 200, body
    for process in running:
        process.communicate(timeout=180)
        assert process.returncode == 0
    assert server.held() == {site.line: 7}
    technician("sync")
    assert technician("status", "--json")["open"] == []
    activation.verify()


def test_commands_that_want_different_things_at_once_end_in_one_of_them(site, tmp_path):
    activation = site.activation(tmp_path)
    servers = [site.field_server(tmp_path, name) for name in ("roof", "cellar")]
    technician = site.technician(tmp_path / "home", activation, *servers)
    commands = (
        ["activate", "--all", "--line", f"{site.line}=3"],
        ["return", "--all"],
        ["return", "--all", "--one-carry"],
        ["sync"],
        ["refresh", "--all"],
    )
    for _ in range(2):
        running = [technician.launch(*words) for words in commands]
        for process in running:
            _, errors = process.communicate(timeout=120)
            assert process.returncode in {0, 1, 4}, errors
            assert TRACEBACK not in errors.decode()
            assert "invariant" not in errors.decode()
    technician("sync")
    for server in servers:
        assert server.held() in ({}, {site.line: 3})
    row = activation.lines()[site.line]
    assert row["held"] == sum(quantity for server in servers for quantity in server.held().values())
    assert row["returning"] == 0
    activation.verify()
    assert Books(activation.directory).rows()["incidents"] == []


def test_two_agents_and_two_activation_servers_on_the_same_data_work_as_one(site, tmp_path):
    activation, server = site.activation(tmp_path), site.field_server(tmp_path)
    technician = site.technician(tmp_path / "home", activation, server)
    second = FieldServer(server.directory)
    second.log = tmp_path / "second.log"
    other = Activation(activation.directory)
    other.log = tmp_path / "other.log"
    for process in (second, other):
        process.start()
        site.processes.append(process)
    technician("activate", "roof", "--line", f"{site.line}=4")
    body = b'{"purpose":"refresh"}'
    kind = {"Content-Type": "application/json"}
    first = server.call("POST", "/v1/requests", body, kind)[2]
    again = second.call("POST", "/v1/requests", body, kind)[2]
    assert (again["repeated"], again["message"]) == (True, first["message"])
    replies = [party.call("POST", "/v1/messages", first["message"].encode())[2] for party in (activation, other)]
    assert replies[0] == replies[1]
    assert second.call("POST", "/v1/inbox", replies[1])[2]["results"][0]["outcome"] == "applied"
    assert server.call("POST", "/v1/inbox", replies[0])[2]["results"][0]["outcome"] == "already"
    assert server.call("GET", "/v1/outbox")[2] == b""
    technician("return", "roof")
    assert activation.lines()[site.line]["available"] == 100
    activation.verify()
