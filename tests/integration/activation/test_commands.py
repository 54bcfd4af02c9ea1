"""Every command of ``tallystick activation``, with and without ``--json``, and how each refuses."""

import json
import threading

import pytest

from support.activation import DAY, ISSUER, Device
from support.served import EXAMPLE_CATALOG, Data
from tallystick.activation.commands.console import age, parse_expiry
from tallystick.activation.core.permissions import operator
from tallystick.activation.server.in_process import InProcessClient
from tallystick.activation.storage.schema import HEAD
from tallystick.errors import Error
from tallystick.protocol import envelope, messages, tallyfile


def write(path, *compacts):
    path.write_bytes(b"".join(tallyfile.format_file(compacts)))
    return str(path)


def envelopes(path):
    return [line.envelope for line in tallyfile.parse_chunks([path.read_bytes()])]


def replies(path):
    keyset, *rest = envelopes(path)
    assert keyset.typ == messages.KEYS
    return [envelope.compact for envelope in rest]


def claims_of(compact, kind):
    return messages.convert_claims(envelope.open_envelope(compact.encode()).payload, kind)


@pytest.fixture
def upload(data, tmp_path):
    """Carry messages to the upload box, and the replies back."""

    def carry(*compacts):
        request, reply = tmp_path / "request.tally", tmp_path / "reply.tally"
        data.ok("message", write(request, *compacts), "-o", str(reply))
        return replies(reply)

    return carry


def refused(data, *words, code, exit_code=1):
    done = data.run(*words)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert f"({code})" in done.stderr
    assert "Expected " in done.stderr
    assert json.loads(data.run(*words, "--json").stdout)["code"] == code


class TestBuying:
    def test_init_says_who_it_is(self, data):
        assert data.made["issuer"] == ISSUER
        assert len(data.made["root_fingerprint"]) == 43

    def test_create_has_the_documented_keys(self, data):
        made = data.ok(
            "entitlement", "create", "--account", "A", "--product", "smartdriver=2", "--expires", "2031-05-06"
        )
        assert made["entitlement_id"].startswith("EN-")
        (line,) = made["lines"]
        assert (line["product"], line["quantity"], line["expires"]) == ("smartdriver", 2, parse_expiry("2031-05-06"))
        assert line["activation_id"].startswith(f"AT-{line['line']}-")
        (listed,) = data.ok("entitlement", "list")
        assert listed["entitlement"] == made["entitlement"]
        assert "entitlement_id" not in listed
        assert data.ok("entitlement", "reveal", made["entitlement_id"]) == made

    def test_id_only_prints_the_id_and_nothing_else(self, data):
        done = data.run("entitlement", "create", "--account", "A", "--product", "smartdriver=2", "--id-only")
        listed = data.ok("entitlement", "list")[0]["entitlement"]
        assert done.stdout.strip() == data.ok("entitlement", "reveal", listed)["entitlement_id"]

    def test_lines_have_the_documented_keys(self, data):
        made = data.buy("smartdriver=2")
        (row,) = data.ok("lines")
        assert list(row)[:8] == [
            *("line", "product", "bought", "available", "held", "returning", "quarantined", "retired"),
        ]
        assert (row["line"], row["bought"], row["available"], row["account"]) == (
            made.lines[0].line_id,
            2,
            2,
            "Harbour",
        )

    def test_the_certificate_is_a_tally_file(self, data, tmp_path):
        made = data.buy("smartdriver=2")
        data.ok("entitlement", "certificate", made.entitlement_id, "-o", str(tmp_path / "c.tally"))
        assert [line.typ for line in envelopes(tmp_path / "c.tally")] == [messages.KEYS, messages.ENTITLEMENT]

    def test_a_line_can_be_changed(self, data):
        made = data.buy("engineering=2", expires="2030-01-01")
        line = made.lines[0].line_id
        row = data.ok("line", "change", line, "--quantity", "5", "--expires", "never", "--bought", "--suspend")
        assert (row["bought"], row["expires"], row["engineering"], row["suspended"]) == (5, None, False, True)
        row = data.ok("line", "change", str(made.lines[0].activation_id), "--resume", "--quantity", "1")
        assert (row["available"], row["retired"], row["suspended"]) == (1, 4, False)
        causes = [entry["cause"].split(": ")[1] for entry in data.ok("ledger", line)]
        assert causes == ["bought", "raised", "lowered"]

    @pytest.mark.parametrize(
        ("words", "code", "exit_code"),
        [
            (("entitlement", "create", "--account", "A", "--product", "nothing=1"), "product-unknown", 1),
            (("entitlement", "create", "--account", "A", "--product", "smartdriver"), "quantity-wrong", 2),
            (("entitlement", "create", "--account", "A", "--product", "smartdriver=x"), "quantity-wrong", 2),
            (("entitlement", "create", "--account", "A", "--product", "smartdriver=-1"), "quantity-wrong", 2),
            (("entitlement", "create", "--account", "A", "--product", "smartdriver=0"), "quantity-wrong", 2),
            (("entitlement", "create", "--account", "", "--product", "smartdriver=1"), "text-wrong", 1),
            (
                ("entitlement", "create", "--account", "A", "--product", "smartdriver=1", "--expires", "soon"),
                "date-wrong",
                2,
            ),
            (("entitlement", "show", "EN-1"), "entitlement-id-mistyped", 1),
            (("entitlement", "show", "EN-000000000000000000000000000"), "not-found", 1),
            (("line", "change", "AAAAAAAA", "--quantity", "1"), "not-found", 1),
            (("line", "change", "A", "--quantity", "1"), "line-id-mistyped", 1),
            (("line", "change", "AAAAAAAA"), "usage", 2),
            (("ledger", "AAAAAAAA"), "not-found", 1),
            (("lift-freeze",), "usage", 2),
            (("lift-freeze", "AAAAAAAA"), "not-found", 1),
            (("catalog", "load", "no-such-file.yaml"), "not-found", 1),
            (("enrol", "short"), "device-id-mistyped", 1),
            (("release", "nobody"), "not-found", 1),
            (("declare-lost", "nobody", "--reason", "x"), "not-found", 1),
            (("return", "nobody", "-o", "x.tally"), "not-found", 1),
            (("message", "no-such-file.tally", "-o", "no-such-directory/x.tally"), "not-found", 1),
        ],
    )
    def test_what_cannot_be_is_refused_with_its_code(self, data, words, code, exit_code):
        refused(data, *words, code=code, exit_code=exit_code)

    def test_wrong_usage_is_2(self, data):
        assert data.run("entitlement", "create").exit_code == 2
        assert data.run("nothing").exit_code == 2

    def test_a_catalog_that_is_wrong_loads_nothing(self, data, tmp_path):
        path = tmp_path / "catalog.yaml"
        path.write_text(EXAMPLE_CATALOG.read_text().replace("smartdriver: 1}", "smartdriver: 0}"))
        refused(data, "catalog", "load", str(path), code="catalog-wrong")

    def test_without_init_every_command_says_so(self, tmp_path):
        refused(Data(tmp_path / "none"), "lines", code="not-initialised")

    def test_a_second_init_is_refused(self, data):
        refused(data, "init", code="already-initialised")


class TestMessages:
    def test_the_reply_file_is_the_same_every_time(self, data, tmp_path):
        made = data.buy("smartdriver=5")
        device = Device("plant")
        request = write(tmp_path / "request.tally", device.activate((made.lines[0], 2)))
        outputs = [tmp_path / "1.tally", tmp_path / "2.tally"]
        rows = [data.ok("message", request, "-o", str(output)) for output in outputs]
        assert outputs[0].read_bytes() == outputs[1].read_bytes()
        assert outputs[0].read_text().startswith("# Tallystick: replies of")
        assert rows[0] == rows[1]
        assert (rows[0][0]["device_id"], rows[0][0]["outcome"]) == (device.id, "granted")
        assert rows[0][0]["reply"] == replies(outputs[0])[0]

    def test_people_see_who_wanted_what_and_why_not(self, data, tmp_path):
        made = data.buy("smartdriver=5")
        request = write(
            tmp_path / "r.tally",
            Device("plant").activate((made.lines[0], 2)),
            Device("roof").activate((made.lines[0], 9)),
            Device("hostile", kind="[red]AS").activate((made.lines[0], 1)),
        )
        done = data.run("message", request, "-o", str(tmp_path / "o.tally"))
        assert done.exit_code == 0
        text = " ".join(done.stdout.split())
        assert f"activate {made.lines[0].line_id}=2" in text
        for words in ("plant", "granted", "not-enough", "([red]AS,", "3 messages: 1 granted, 2 refused."):
            assert words in text

    def test_some_bad_lines_are_4_and_the_good_ones_go_through(self, data, tmp_path):
        made = data.buy("smartdriver=5")
        request = write(tmp_path / "r.tally", "nonsense", Device("plant").activate((made.lines[0], 2)))
        done = data.run("message", request, "-o", str(tmp_path / "o.tally"))
        assert done.exit_code == 4
        assert "1 of 2 lines were not taken" in done.stderr
        assert len(replies(tmp_path / "o.tally")) == 1
        assert "# line 1 was not taken (envelope-malformed)" in (tmp_path / "o.tally").read_text()
        assert data.line(made.lines[0])["held"] == 2

    def test_nothing_but_bad_lines_is_1(self, data, tmp_path):
        request = write(tmp_path / "r.tally", "nonsense")
        assert data.run("message", request, "-o", str(tmp_path / "o.tally")).exit_code == 1

    @pytest.mark.parametrize("content", [b"", b"# only a comment\n"])
    def test_an_empty_file_is_refused_and_no_reply_file_appears(self, data, tmp_path, content):
        (tmp_path / "r.tally").write_bytes(content)
        refused(data, "message", str(tmp_path / "r.tally"), "-o", str(tmp_path / "o.tally"), code="no-messages")
        assert [path.name for path in tmp_path.iterdir() if "o.tally" in path.name] == []

    def test_an_old_reply_file_stays_when_the_new_one_fails(self, data, tmp_path):
        output = tmp_path / "o.tally"
        output.write_text("old")
        (tmp_path / "r.tally").write_bytes(b"x\n" * 20_000)
        refused(data, "message", str(tmp_path / "r.tally"), "-o", str(output), code="not-text")
        assert output.read_text() == "old"

    def test_a_long_file_goes_through_in_chunks(self, data, tmp_path):
        made = data.buy("smartdriver=2000")
        messages_ = [Device(f"d{number}").activate((made.lines[0], 1)) for number in range(700)]
        request = write(tmp_path / "r.tally", *messages_)
        rows = data.ok("message", request, "-o", str(tmp_path / "o.tally"))
        assert [row["digest"] for row in rows] == [envelope.digest_of(message) for message in messages_]
        assert len(replies(tmp_path / "o.tally")) == 700
        assert data.line(made.lines[0])["held"] == 700


class TestReturns:
    def hold(self, data, upload, quantity=3, name="plant"):
        made = data.buy("smartdriver=5")
        device = Device(name)
        device.take(upload(device.activate((made.lines[0], quantity)))[0])
        upload(device.say("confirm"))
        return made.lines[0], device

    def test_a_return_is_open_until_it_is_confirmed(self, data, upload):
        line, device = self.hold(data, upload)
        assert data.ok("returns") == []
        device.take(upload(device.give_back())[0])
        (row,) = data.ok("returns")
        assert (row["device_id"], row["name"], row["line"], row["quantity"]) == (device.id, "plant", line.line_id, 3)
        assert row["age_seconds"] >= 0
        assert "what is in its outbox" in row["next_step"]
        assert data.line(line)["returning"] == 3
        assert "plant" in data.run("returns").stdout
        upload(device.say("confirm"))
        assert data.ok("returns") == []
        assert data.line(line)["available"] == 5

    def test_one_that_was_started_here_is_carried_like_any_other(self, data, upload, tmp_path):
        line, device = self.hold(data, upload)
        first, again = tmp_path / "a.tally", tmp_path / "b.tally"
        done = data.ok("return", "plant", "-o", str(first))
        assert done["device_id"] == device.id
        data.ok("return", device.id[:6], "-o", str(again))
        assert first.read_bytes() == again.read_bytes()
        (row,) = data.ok("returns")
        assert "starting it again gives the same file" in row["next_step"]
        device.take(replies(first)[0])
        upload(device.say("confirm"))
        assert data.line(line)["available"] == 5

    def test_what_a_field_server_holds_can_be_changed_from_here(self, data, upload, tmp_path):
        line, device = self.hold(data, upload)
        data.ok("change", "host-plant", "--line", f"{line.line_id}=1", "-o", str(tmp_path / "a.tally"))
        (row,) = data.ok("returns")
        assert (row["quantity"], row["stands"]) == (2, "started here, not yet proven")
        data.ok("change", "plant", "-o", str(tmp_path / "b.tally"))
        assert replies(tmp_path / "b.tally") == replies(tmp_path / "a.tally")
        device.take(replies(tmp_path / "a.tally")[0])
        upload(device.say("confirm"))
        (server,) = data.ok("field-servers")
        (license_,) = server["licenses"]
        wanted = {"line": line.line_id, "product": "smartdriver", "quantity": 1, "returning": 0}
        assert wanted.items() <= license_.items()
        refused(data, "change", "plant", "--line", f"{line.line_id}=99", "-o", "x.tally", code="not-enough")

    def test_declared_lost_waits_in_quarantine_and_counts(self, data, upload):
        line, device = self.hold(data, upload)
        done = data.ok("declare-lost", "plant", "--reason", "burnt", "--by", "ada")
        assert (done["status"], done["quarantined"]) == ("lost", [{"line": line.line_id, "quantity": 3}])
        assert data.line(line)["quarantined"] == 3
        refused(data, "declare-lost", "plant", "--reason", "burnt", code="lost-already")
        refused(data, "return", "plant", "-o", "x.tally", code="lost-already")
        (server,) = data.ok("field-servers")
        assert server["lost_until"] - server["lost_at"] == 14 * DAY
        device.take(upload(device.say("refresh"))[0])
        assert data.line(line)["held"] == 3
        (incident,) = data.ok("incidents")
        assert list(incident)[:2] == ["kind", "device_id"]
        assert (incident["kind"], incident["device_id"]) == ("reappeared", device.id)
        assert {"at", "detail", "next_step"} <= incident.keys()

    def test_the_yearly_limit_can_be_overridden_by_name(self, tmp_path):
        data = Data(tmp_path / "a").init("--lost-per-year", "0")
        made = data.buy("smartdriver=1")
        (tmp_path / "r.tally").write_text(Device("plant").activate((made.lines[0], 1)))
        data.ok("message", str(tmp_path / "r.tally"), "-o", str(tmp_path / "o.tally"))
        refused(data, "declare-lost", "plant", "--reason", "burnt", code="lost-too-often")
        assert data.ok("declare-lost", "plant", "--reason", "burnt", "--override", "--by", "boss")["status"] == "lost"

    def test_a_fork_is_held_until_a_person_releases_it(self, data, upload):
        _, device = self.hold(data, upload)
        clone = device.copy()
        upload(device.say("refresh"))
        upload(clone.say("refresh"))
        assert data.ok("incidents")[0]["kind"] == "fork"
        assert data.ok("field-servers")[0]["status"] == "hold"
        assert data.ok("release", "plant")["status"] == "active"
        refused(data, "release", "plant", code="not-on-hold")

    def test_a_name_of_two_is_ambiguous(self, data, upload):
        made = data.buy("smartdriver=5")
        upload(
            Device("twin").activate((made.lines[0], 1)), Device("other", host_id="twin").activate((made.lines[0], 1))
        )
        refused(data, "release", "twin", code="ambiguous")
        refused(data, "release", Device("twin").id[:5], code="not-found")
        refused(data, "release", Device("twin").id[:6], code="not-on-hold")

    def test_listed_beforehand(self, tmp_path):
        data = Data(tmp_path / "a").init("--enrolment", "listed")
        made = data.buy("smartdriver=5")
        device = Device("plant")
        (tmp_path / "r.tally").write_text(device.activate((made.lines[0], 1)))
        words = ("message", str(tmp_path / "r.tally"), "-o", str(tmp_path / "o.tally"))
        assert data.ok(*words)[0]["code"] == "not-enrolled"
        assert data.ok("enrol", device.id, "--account", "Harbour")["status"] == "listed"
        (tmp_path / "r.tally").write_text(device.activate((made.lines[0], 1)))
        assert data.ok(*words)[0]["outcome"] == "granted"


class TestCare:
    def test_verify_is_green(self, data):
        data.buy("smartdriver=5")
        assert data.ok("verify") == {"green": True, "lines": 1, "entries": 1, "field_servers": 0, "faults": []}
        assert "Green" in data.run("verify").stdout

    def test_after_a_restore_nothing_grows_until_the_freeze_is_lifted(self, data, upload):
        made = data.buy("smartdriver=5", "mqtt-client=5")
        first, second = made.lines
        device = Device("plant")
        device.take(upload(device.activate((first, 1)))[0])
        assert data.ok("restore") == {"frozen_lines": 2, "field_servers": 1}
        assert {row["frozen"] for row in data.ok("lines")} == {True}
        refusal = claims_of(upload(device.say("refresh"))[0], messages.Refusal)
        device.sequence = refusal.seen  # it goes on above what may have been forgotten, and takes the fence
        device.take(upload(device.say("refresh"))[0])
        refusal = claims_of(upload(device.activate((first, 2)))[0], messages.Refusal)
        assert refusal.code == "line-frozen"
        assert data.ok("lift-freeze", first.line_id)["lifted"] == 1
        assert data.ok("lift-freeze", "--all")["lifted"] == 1
        upload(device.activate((first, 2)))
        assert data.line(first)["held"] == 2

    def test_migrate_says_what_the_schema_is(self, data):
        assert data.ok("migrate") == {"before": HEAD, "after": HEAD}

    @pytest.mark.parametrize(
        "words",
        [("lines",), ("returns",), ("incidents",), ("field-servers",), ("entitlement", "list"), ("migrate",)],
    )
    def test_with_nothing_there_a_sentence_says_what_to_do(self, data, words):
        done = data.run(*words)
        assert (done.exit_code, done.stdout.count("\n")) == (0, 1)

    def test_another_database_can_be_named(self, data, tmp_path):
        elsewhere = f"sqlite:///{tmp_path}/elsewhere.sqlite"
        other = Data(tmp_path / "other").init("--database", elsewhere)
        other.buy("smartdriver=5")
        assert (tmp_path / "elsewhere.sqlite").exists()
        (other.path / "settings.toml").write_bytes((data.path / "settings.toml").read_bytes())  # which names none
        assert len(other.ok("lines", "--database", elsewhere)) == 1
        refused(data, "lines", "--database", elsewhere, code="database-foreign")
        assert data.ok("lines") == []
        refused(data, "lines", "--database", "sqlite:////no/such/file", code="database-missing")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2027-12-31", 1830297599),
        ("2027-12-31T00:00:00Z", 1830211200),
        ("2027-12-31T01:00:00+01:00", 1830211200),
        ("2027-12-31T00:00", 1830211200),
        ("never", None),
        (" Never ", None),
    ],
)
def test_dates_are_read(text, at):
    assert parse_expiry(text) == at


@pytest.mark.parametrize("text", ["", "2027-13-01", "31.12.2027", "0000-00-00", "tomorrow", "9" * 400])
def test_what_is_no_date_is_refused(text):
    with pytest.raises(Error) as refused:
        parse_expiry(text)
    assert refused.value.code == "date-wrong"


def test_ages_are_read_at_a_glance():
    assert [age(seconds) for seconds in (0, 59, 61, 3600, 90_061, 30 * DAY)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h",
        "1 d 1 h",
        "30 d",
    ]


def test_the_api_in_this_process_answers_messages_too(data):
    body = b"".join(tallyfile.format_file([Device("Roof").say("refresh")]))
    headers = {"accept": tallyfile.MEDIA_TYPE, "content-type": tallyfile.MEDIA_TYPE}
    answers = []
    with data.opened() as activation:
        client = InProcessClient(activation, operator("somebody"))

        def send_twice():
            answers.extend(client.send("POST", "/v1/messages", headers, body) for _ in range(2))

        sending = threading.Thread(target=send_twice, daemon=True)  # one that hangs keeps nobody
        sending.start()
        sending.join(60)
    assert [status for status, _, _ in answers] == [200, 200]
    assert all(list(tallyfile.parse_chunks([reply])) for _, _, reply in answers)


def test_the_api_in_this_process_knows_every_path_and_refuses_others_as_the_network_does(data):
    with data.opened() as activation:
        client = InProcessClient(activation, operator("somebody"))
        paths = (
            "/v1/lines",
            "/v1/accounts",
            "/v1/field-servers",
            "/v1/webhooks",
            "/v1/lines",
            "/v1/nothing",
            "/nothing",
        )
        assert [client.send("GET", path, {}, None)[0] for path in paths] == [200, 200, 200, 200, 200, 404, 404]
        assert client.send("DELETE", "/v1/lines", {}, None)[0] == 405
