"""The command ``tallystick fieldserver``: names, JSON keys, exit codes, and a reason on standard error."""

import json
import ssl

import pytest
from typer.testing import CliRunner

from support.fieldserver.helpers import LINE, Issuer, activation_id, license_claim
from tallystick.fieldserver.cli import app
from tallystick.protocol.answers import Question, Reader
from tallystick.protocol.envelope import LINE_BYTES_MAX, open_envelope

ISSUER = Issuer()
runner = CliRunner()


class Cli:
    def __init__(self, directory):
        self.directory = directory
        self.data = ["--data", str(directory / "data")]

    def __call__(self, *words, expect=0, stdin=None):
        result = runner.invoke(app, [*map(str, words), *self.data], input=stdin)
        assert result.exit_code == expect, (result.exit_code, result.output, result.exception)
        return (json.loads(result.stdout) if "--json" in words else result.stdout), result.stderr

    def init(self, *words, expect=0):
        trust = () if {"--root", "--keys", "--trust-first"} & set(words) else ("--trust-first",)
        return self("init", "--kind", "AS-P", "--name", "Roof", "--host-id", "h1", *trust, *words, expect=expect)

    def file(self, *lines):
        path = self.directory / "file.tally"
        path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
        return path


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


@pytest.fixture
def pinned(cli):
    cli.id = cli.init("--json")[0]["device_id"]
    cli("deliver", cli.file(ISSUER.keyset()), "--json")
    return cli


def test_a_new_password_leaves_the_certificate_as_it_is_unless_that_is_to_be_new_too(cli):
    made, _ = cli.init("--json")
    key = cli.directory / "data" / "tls.key"
    before, password = key.read_bytes(), (cli.directory / "data" / "password.txt").read_text()
    same, _ = cli("new-password", "--json")
    assert (same["certificate_fingerprint"], key.read_bytes()) == (made["certificate_fingerprint"], before)
    new, _ = cli("new-password", "--new-certificate", "--json")
    assert new["certificate_fingerprint"] != made["certificate_fingerprint"]
    assert cli("status", "--json")[0]["certificate_fingerprint"] == new["certificate_fingerprint"]
    assert (key.read_bytes() == before, key.stat().st_mode & 0o777) == (False, 0o600)
    assert (cli.directory / "data" / "password.txt").read_text() != password
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(key.with_name("tls.pem"), key)  # they fit


def test_init_tells_what_the_interface_promises(cli):
    made, _ = cli.init("--json")
    assert made.keys() == {"device_id", "kind", "name", "certificate_fingerprint", "password_file"} | {
        "root_fingerprint",
        "trust",
    }
    assert (made["kind"], made["name"]) == ("AS-P", "Roof")
    assert made["certificate_fingerprint"].startswith("SHA256:")
    status, _ = cli("status", "--json")
    assert status["certificate_fingerprint"] == made["certificate_fingerprint"]
    assert status["device_id"] == made["device_id"]


def test_init_for_people_names_the_next_step(cli):
    out, _ = cli.init()
    assert "Next: tallystick fieldserver run" in out


def test_init_twice_is_refused(cli):
    cli.init()
    problem, err = cli.init("--json", expect=1)
    assert problem["code"] == "already-initialised"
    assert "already-initialised" in err


def test_init_with_a_name_that_is_none_is_wrong_usage(cli):
    result = runner.invoke(app, ["init", "--kind", "AS-P", "--name", "", *cli.data])
    assert result.exit_code == 2
    assert not (cli.directory / "data").exists()


def test_init_pins_keys_and_says_which_could_not_be_used(cli):
    _, err = cli.init("--keys", cli.file(ISSUER.keyset(), "junk"), expect=4)
    assert "envelope-malformed" in err
    assert cli("status", "--json")[0]["issuer"] == "vendor.example"


def test_init_with_keys_that_are_not_there_makes_nothing(cli):
    _, err = cli.init("--keys", cli.directory / "absent.tally", expect=1)
    assert "not-found" in err
    assert not (cli.directory / "data").exists()


@pytest.mark.parametrize(
    "words", [["status"], ["outbox"], ["deliver", "-"], ["request", "refresh"], ["check", "mqtt"]], ids=lambda w: w[0]
)
def test_a_directory_without_a_field_server_is_named(cli, words):
    _, err = cli(*words, expect=1, stdin=b"")
    assert "not-initialised" in err


def test_status_for_people(pinned):
    pinned(
        "deliver",
        pinned.file(
            ISSUER.grant(pinned.id, 1, confirm=True, licenses=(license_claim(expires=1), license_claim("7K3M9Q2B")))
        ),
    )
    out, _ = pinned("status")
    for word in ("Roof", "AS-P", LINE, "mqtt-client", "expired", "confirm"):
        assert word in out


def test_what_is_shown_to_people_moves_no_cursor(pinned):
    asked, _ = pinned("request", "refresh", "--json")
    refusal = ISSUER.refusal(pinned.id, asked["digest"], detail="\x1b[31m[bold]red[/bold]\n")
    out, _ = pinned("deliver", pinned.file(refusal))
    assert "\x1b[31m" not in out
    assert "[bold]" in out


def test_a_request_is_written_once(pinned):
    key = f"{activation_id()}=2"
    first, _ = pinned("request", "activate", key, "--json")
    again, _ = pinned("request", "activate", key, "--json")
    assert again == {**first, "repeated": True}
    outbox, _ = pinned("outbox", "--json")
    assert (outbox["waiting"], outbox["messages"][0]["message"]) == (1, first["message"])


@pytest.mark.parametrize(
    ("words", "code", "expect"),
    [
        (["confirm"], "usage", 2),
        (["return"], "usage", 2),
        (["return", "--all", f"{LINE}=1"], "usage", 2),
        (["refresh", "--all"], "usage", 2),
        (["return", "7K3M9Q2A"], "quantity-wrong", 2),
        (["return", "7K3M9Q2A=x"], "quantity-wrong", 2),
        (["return", "7K3M=1"], "line-id-mistyped", 1),
        (["activate", "AT-X=1"], "activation-id-mistyped", 1),
        (["return", "--all"], "nothing-held", 1),
    ],
)
def test_a_request_that_is_none_says_why(pinned, words, code, expect):
    problem, err = pinned("request", *words, "--json", expect=expect)
    assert problem["code"] == code
    assert code in err


def test_the_outbox_is_a_file_with_the_same_bytes_every_time(pinned):
    pinned("request", "relinquish")
    file = pinned.directory / "out.tally"
    pinned("outbox", "-o", file)
    first = file.read_bytes()
    file.unlink()
    assert pinned("outbox")[0].encode() == first
    told, _ = pinned("outbox", "-o", file, "--json")
    assert file.read_bytes() == first
    assert told["file"] == str(file)


def test_an_outbox_that_cannot_be_written_says_so(pinned):
    _, err = pinned("outbox", "-o", pinned.directory / "absent" / "out.tally", expect=1)
    assert "disk-failed" in err


@pytest.mark.parametrize(
    ("lines", "expect", "codes"),
    [
        ([], 1, []),
        ([b"junk"], 1, ["envelope-malformed"]),
        ([b"\x00" * (LINE_BYTES_MAX + 9)], 1, ["line-too-long"]),
        (["grant"], 0, [None]),
        (["grant", "grant"], 0, [None, None]),
        (["grant", "stranger"], 4, [None, "key-unknown"]),
        (["grant", "other"], 0, [None, "device-wrong"]),
        (["other"], 1, ["device-wrong"]),
        (["newer", "grant"], 0, [None, "grant-stale"]),
    ],
)
def test_a_delivery_says_line_by_line_what_became_of_it(pinned, lines, expect, codes):
    made = {
        "grant": ISSUER.grant(pinned.id, 1),
        "newer": ISSUER.grant(pinned.id, 2),
        "other": ISSUER.grant("x" * 43, 1),
        "stranger": Issuer(seed=9).grant(pinned.id, 3),
    }
    told, err = pinned("deliver", pinned.file(*(made.get(line, line) for line in lines)), "--json", expect=expect)
    assert [line["code"] for line in told["results"]] == codes
    assert bool(err) is bool(expect)


def test_a_delivery_takes_keys_first_wherever_they_stand(cli):
    device = cli.init("--json")[0]["device_id"]
    lines = [ISSUER.grant(device, 1), *(b"# filling" for _ in range(10)), ISSUER.keyset()]
    told, _ = cli("deliver", cli.file(*lines), "--json")
    assert [line["outcome"] for line in told["results"]] == ["applied", "applied"]


def test_a_long_delivery_is_taken_in_parts_and_shows_what_matters(pinned):
    lines = [*(b"junk" for _ in range(3000)), ISSUER.grant(pinned.id, 1), *(b"junk" for _ in range(500))]
    told, err = pinned("deliver", pinned.file(*lines), "--json", expect=4)
    assert told["more"]
    assert {line["line_number"] for line in told["results"] if line["outcome"] == "applied"} == {3001}
    assert len(told["results"]) <= 1000


def test_a_delivery_may_come_from_standard_input(pinned):
    told, _ = pinned("deliver", "-", "--json", stdin=ISSUER.grant(pinned.id, 1).encode())
    assert told["results"][0]["outcome"] == "applied"


def test_a_file_that_is_not_there_is_named(pinned):
    _, err = pinned("deliver", pinned.directory / "absent.tally", expect=1)
    assert "not-found" in err


def test_a_check_answers_with_its_exit_code(pinned):
    pinned("deliver", pinned.file(ISSUER.grant(pinned.id, 1)))
    verdict, _ = pinned("check", "mqtt", "--used", "1", "--json")
    assert (verdict["licensed"], verdict["activated"], verdict["standing"]) == (True, 1, "licensed")
    verdict, err = pinned("check", "mqtt", "--used", "2", "--json", expect=1)
    assert (verdict["licensed"], verdict["violation"], verdict["standing"]) == (False, True, "too-few")
    assert "mqtt" in err


@pytest.mark.parametrize("command", ["init", "run", "status", "outbox", "deliver", "request", "check"])
def test_every_command_shows_an_example(command):
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: tallystick fieldserver {command}" in " ".join(result.stdout.split())


# Which root


ROOT = ISSUER.root.public.thumbprint


def test_init_without_a_root_says_what_to_name(cli):
    result = runner.invoke(app, ["init", "--kind", "AS-P", "--name", "Roof", "--host-id", "h1", *cli.data])
    assert result.exit_code == 2
    for option in ("--root", "--keys", "--trust-first"):
        assert option in result.stderr


@pytest.mark.parametrize("root", ["", "typo", ROOT[:-1], f"{ROOT}A", "A" * 42 + "B"])
def test_init_with_a_root_that_is_no_fingerprint_is_wrong_usage(cli, root):
    _, err = cli.init("--root", root, expect=2)
    assert "43 symbols" in err
    assert not (cli.directory / "data").exists()


def test_init_with_a_root_and_trust_at_first_delivery_is_wrong_usage(cli):
    cli.init("--root", ROOT, "--trust-first", expect=2)
    assert not (cli.directory / "data").exists()


@pytest.mark.parametrize(
    ("words", "said", "trust"),
    [(("--root", ROOT), f"Root {ROOT} was named", "named"), (("--trust-first",), "For trials only", "first-delivery")],
)
def test_init_and_status_say_how_the_root_is_pinned(cli, words, said, trust):
    out, _ = cli.init(*words)
    assert said in out
    assert said in cli("status")[0].replace("\n", " ")
    assert cli("status", "--json")[0]["trust"] == trust


def test_status_of_a_field_server_of_an_earlier_release_says_so(cli):
    cli.init()
    (cli.directory / "data" / "fieldserver.json").write_bytes(b'{"kind":"AS-P","name":"Roof","host_id":"h1"}\n')
    assert "An earlier release" in cli("status")[0]
    assert "trust" not in cli("status", "--json")[0]


def test_check_decides_as_a_program_that_names_a_root_would(cli):
    made, _ = cli.init("--json")
    cli("deliver", cli.file(ISSUER.keyset(), ISSUER.grant(made["device_id"], 1)))
    assert "licensed" in cli("check", "mqtt", "--root", ROOT)[0]
    out, err = cli("check", "mqtt", "--root", "A" * 43, expect=1)
    assert "not-licensed (other-issuer)" in out
    assert "Other issuer" in err
    assert cli("check", "mqtt", "--root", "A" * 43, "--json", expect=1)[0]["code"] == "other-issuer"


def test_check_prints_the_signed_answer_that_a_program_gets(cli):
    made, _ = cli.init("--json")
    cli("deliver", cli.file(ISSUER.keyset(), ISSUER.grant(made["device_id"], 1)))
    out, _ = cli("check", "mqtt", "--answer")
    assert out.startswith("# mqtt: licensed (1 activated, 1 required)\n")
    answer, grant, keyset = [line for line in out.splitlines() if not line.startswith("#")]
    claims = json.loads(open_envelope(answer.encode()).payload)
    question = Question(feature="mqtt", required=1, nonce=claims["nonce"])
    assert Reader([ROOT]).decide(question, out.encode()).is_licensed
    assert (grant, keyset) == (ISSUER.grant(made["device_id"], 1), ISSUER.keyset())
    assert cli("check", "a b", "--answer", expect=1)


@pytest.mark.parametrize("mode", ["", "rw", "8", "1777", "999", "0o600"])
def test_a_mode_of_the_socket_that_is_none_is_wrong_usage(cli, mode):
    cli.init()
    _, err = cli("run", "--socket-mode", mode, expect=2)
    assert "660" in err
