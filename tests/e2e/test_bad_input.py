"""Every entrance for files and HTTP bodies, and everything that can be wrong with what comes in.

Each bad line gets its documented code and a next step, the good lines beside it go through, and what was refused has
changed nothing: not a row of a database, not a byte of a vault.
"""

import io
import json
import zipfile

import pytest

from support import forge
from support.judge import Books
from support.parties import Activation, FieldServer, Technician, run_here
from support.tap import lines_of
from tallystick.activation.keys.signing import load_signer
from tallystick.fieldserver.platform import read_seed
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.messages import ENTITLEMENT
from tallystick.protocol.problems import BY_CODE

pytestmark = pytest.mark.slow

JSON = {"Accept": "application/json", "Content-Type": "application/x-tally"}


class Site:
    """One activation server, two field servers, a technician; what each has signed once."""

    def __init__(self, directory):
        self.directory = directory
        self.activation = Activation(directory / "activation")
        self.activation.make()
        self.bought = self.activation.buy("connected-devices=50", "smartdriver=20")
        self.line = self.bought["lines"][0]["line"]
        self.activation_id = self.bought["lines"][0]["activation_id"]
        (directory / "fs").mkdir()
        self.roof, self.cellar = (FieldServer(directory / "fs" / name) for name in ("roof", "cellar"))
        self.technician = Technician(directory / "technician")
        for party in (self.activation, self.roof, self.cellar, self.technician):
            party.run = run_here  # a few hundred commands
        self.signer = load_signer(self.activation.directory)
        self.books = Books(self.activation.directory)

    def start(self):
        self.activation.start()
        for server in (self.roof, self.cellar):
            server.make()
            server.start()
            self.technician.add(server)
        self.technician("entitlement", "add", self.bought["entitlement_id"], "--activation", self.activation.url)
        self.technician("activate", "--all", "--line", f"{self.line}=1")
        self.grants = {server.name: server.look().applied.compact for server in (self.roof, self.cellar)}
        self.message = self.ask_for("refresh")
        self.technician("sync")
        self.key = PrivateKey(read_seed(self.roof.directory))
        return self

    def stop(self):
        for process in (self.roof, self.cellar, self.activation):
            process.stop()

    def ask_for(self, purpose, server=None):
        """A message that roof has written, and that nobody has carried yet."""
        status, _, body = (server or self.roof).call(
            "POST", "/v1/requests", json.dumps({"purpose": purpose}), {"Content-Type": "application/json"}
        )
        assert status == 200, body
        return body["message"]

    def post(self, body, headers=JSON):
        return self.activation.call("POST", "/v1/messages", body, headers)

    def file(self, name, data):
        path = self.directory / name
        path.write_bytes(data)
        return path

    def bad_up(self):
        return forge.bad_up(self.message, self.key, self.signer, self.grants["roof"])

    def bad_down(self):
        return forge.bad_down(self.grants["roof"], self.signer, self.grants["cellar"], self.message)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("bad"))
    try:
        yield made.start()
    finally:
        made.stop()


def assert_codes(rows, bad):
    """Every bad line has its code, and every code is in the table, with a next step."""
    seen = {name: row["code"] for name, row in zip(bad, rows, strict=True)}
    wrong = {name: code for name, code in seen.items() if bad[name].code not in {code, "*"}}
    assert not wrong, wrong
    for row in rows:
        assert row["code"] in BY_CODE
        assert row["next_step"]
        assert row["detail"].isprintable()


def joined(bad, *good):
    return b"\n".join([*(one.line for one in bad.values()), *(one.encode() for one in good)]) + b"\n"


# The activation server


def test_every_bad_line_over_http_gets_its_code_and_changes_nothing(site):
    bad, before = site.bad_up(), site.books.rows()
    status, _, rows = site.post(joined(bad))
    assert status == 200
    assert {row["outcome"] for row in rows} == {"error"}
    assert {row["reply"] for row in rows} == {""}
    assert_codes(rows, bad)
    assert site.books.rows() == before


def test_good_lines_beside_bad_ones_go_through_over_http(site):
    good = site.ask_for("refresh")
    bad = site.bad_up()
    status, _, rows = site.post(b"# from roof\n\n" + joined(bad, good) + joined(bad))
    assert status == 200
    assert [row["outcome"] for row in rows if row["outcome"] != "error"] == ["granted"]
    status, _, tally = site.post(joined(bad, good), {"Accept": "application/x-tally"})
    assert status == 200
    assert len(lines_of(tally)) == 1
    assert tally.count(b"was not taken") == len(bad)
    site.technician("sync")
    assert site.roof.call("GET", "/v1/outbox")[2] == b""


def test_every_bad_line_in_an_uploaded_file_gets_its_code_and_good_ones_go_through(site):
    good = site.ask_for("refresh", site.cellar)
    bad = site.bad_up()
    file, reply = site.file("up.tally", joined(bad, good)), site.directory / "down.tally"
    rows = site.activation.command("message", file, "-o", reply, "--json", expect=4)
    assert_codes(rows[:-1], bad)
    assert rows[-1]["outcome"] == "granted"
    first = reply.read_bytes()
    site.activation.command("message", file, "-o", reply, expect=4)
    assert reply.read_bytes() == first
    site.technician("import", reply)
    assert site.cellar.call("GET", "/v1/outbox")[2] == b""


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"# only words\n", b"\xef\xbb\xbf"], ids=["empty", "blank", "comment", "mark"]
)
def test_a_file_with_no_message_is_named_and_writes_no_reply(site, data):
    status, headers, problem = site.post(data)
    assert (status, problem["code"], headers["Content-Type"]) == (422, "no-messages", "application/problem+json")
    reply = site.directory / "none.tally"
    told = site.activation.command("message", site.file("empty.tally", data), "-o", reply, "--json", expect=1)
    assert (told["code"], bool(told["next_step"])) == ("no-messages", True)
    assert not reply.exists()


def test_a_file_of_nothing_but_bad_lines_is_refused_as_a_whole_and_each_line_is_named(site):
    bad, before = site.bad_up(), site.books.rows()
    reply = site.directory / "bad.tally"
    said = site.activation.command("message", site.file("bad-up.tally", joined(bad)), "-o", reply, expect=1)
    assert "were not taken" in said.err
    assert reply.read_bytes().count(b"was not taken") == len(bad)
    assert site.books.rows() == before


def test_a_message_from_last_year_is_answered_again_or_superseded_and_accuses_nobody(site):
    claims = forge.claims_of(site.message)
    fresh = site.ask_for("refresh")
    site.post(fresh.encode())
    repeated = site.post(site.message.encode())[2]
    assert repeated[0]["outcome"] == "granted"
    late = claims | {"sequence": 1, "iat": claims["iat"] - forge.YEAR, "jti": "from-last-year-000"}
    first = site.books.rows()
    used = {row["sequence"] for row in first["messages"] if row["device_id"] == site.roof.id}
    late["sequence"] = next((number for number in range(1, max(used)) if number not in used), None)
    if late["sequence"] is not None:
        (row,) = site.post(site.key.sign("tally-request+jwt", forge.text(late), with_jwk=True).encode())[2]
        assert (row["outcome"], row["code"]) == ("refused", "superseded")
    assert site.books.rows()["incidents"] == []
    site.technician("sync")


def test_a_stranger_who_signs_well_is_not_enrolled_and_gets_nothing(site):
    stranger = PrivateKey(b"q" * 32)
    claims = forge.claims_of(site.message) | {"iss": stranger.public.thumbprint, "sequence": 1, "applied": None}
    claims["facts"] = claims["facts"] | {"host_id": "host-of-a-stranger"}
    (row,) = site.post(stranger.sign("tally-request+jwt", forge.text(claims), with_jwk=True).encode())[2]
    assert (row["outcome"], row["code"]) == ("refused", "not-enrolled")
    assert stranger.public.thumbprint not in {row["device_id"] for row in site.books.rows()["field_servers"]}


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {}, "json-malformed"),
        (b"\xff\x00\x01", {}, "json-malformed"),
        (b'{"entitlement_id":', {}, "json-malformed"),
        (b"[" * 60_000, {}, "json-malformed"),
        (b"[]", {}, "claims-malformed"),
        (b'{"entitlement_id":1}', {}, "claims-malformed"),
        (b'{"entitlement_id":"EN-1","x":1}', {}, "claims-malformed"),
        (b'{"entitlement_id":"a","entitlement_id":"b"}', {}, "json-malformed"),
        (b'{"entitlement_id":"EN-1"}', {}, "entitlement-id-mistyped"),
        (b'{"entitlement_id":"' + b"A" * 5000 + b'"}', {}, "entitlement-id-mistyped"),
        (b'{"entitlement_id":"' + b"A" * 100_000 + b'"}', {}, "body-too-large"),
    ],
)
def test_a_lookup_that_is_none_gets_its_code(site, body, headers, code):
    sent = {"Content-Type": "application/json", **headers}
    status, got, problem = site.activation.call("POST", "/v1/entitlements/lookup", body, sent)
    assert (problem["code"], problem["status"]) == (code, status)
    assert got["Content-Type"] == "application/problem+json"
    assert problem["next_step"]


BAD_CATALOGS = {
    "empty": (b"", "catalog-wrong"),
    "binary": (bytes(range(256)), "catalog-wrong"),
    "half": (b"kinds: [AS-P\nproducts:\n  a: {name:", "catalog-wrong"),
    "a tally file": (b"eyJh.eyJh.eyJh\n", "catalog-wrong"),
    "names twice": (b"kinds: [A]\nkinds: [B]\nproducts: {}\n", "catalog-wrong"),
    "unknown names": (b"kinds: [A]\nproducts: {}\nsongs: {}\n", "catalog-wrong"),
    "a bomb": (
        b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nkinds: *c\nproducts: {}\n",
        "catalog-wrong",
    ),
    "a program": (b"kinds: !!python/object/apply:os.system ['true']\nproducts: {}\n", "catalog-wrong"),
    "one bad product": (
        (
            b"kinds: [AS-P]\nproducts:\n  good: {name: Good, kinds: [AS-P], features: {good: 1}}\n"
            b"  bad: {name: Bad, kinds: [AS-Q], features: {bad: 1}}\n"
        ),
        "catalog-wrong",
    ),
    "nested": (b"[" * 100_000, "catalog-wrong"),
    "too large": (b"# " + b"x" * 2_000_000, "body-too-large"),
}


@pytest.mark.parametrize("name", BAD_CATALOGS)
def test_a_bad_catalog_is_named_and_nothing_of_it_is_loaded(site, name):
    data, code = BAD_CATALOGS[name]
    before = site.books.rows()
    told = site.activation.command("catalog", "load", site.file("bad.yaml", data), "--json", expect=1)
    assert (told["code"], bool(told["next_step"])) == (code, True)
    assert site.books.rows() == before


# Field servers


@pytest.mark.parametrize("way", ["inbox", "deliver"])
def test_every_bad_line_at_a_field_server_gets_its_code_and_changes_nothing(site, way):
    bad = site.bad_down()
    before = (site.roof.look(), site.roof.call("GET", "/v1/outbox")[2])
    if way == "inbox":
        status, _, answer = site.roof.call("POST", "/v1/inbox", joined(bad))
        assert status == 200
    else:
        answer = site.roof.command("deliver", site.file("bad-down.tally", joined(bad)), "--json", expect=1)
    rows = sorted(answer["results"], key=lambda row: row["line_number"])
    assert {row["outcome"] for row in rows} == {"error"}
    assert_codes(rows, bad)
    assert (site.roof.look(), site.roof.call("GET", "/v1/outbox")[2]) == before


@pytest.mark.parametrize("way", ["inbox", "deliver"])
def test_good_lines_beside_bad_ones_are_applied_at_a_field_server(site, way):
    message = site.ask_for("refresh")
    (answer,) = site.post(message.encode())[2]
    tally = joined(site.bad_down(), *answer["reply"].split()) + joined(site.bad_down())
    if way == "inbox":
        results = site.roof.call("POST", "/v1/inbox", tally)[2]["results"]
    else:
        results = site.roof.command("deliver", site.file("mixed.tally", tally), "--json", expect=4)["results"]
    assert [row["outcome"] for row in results if row["outcome"] != "error"] == ["applied"]
    assert site.roof.look().applied.compact == answer["reply"].split()[0]


def test_a_reply_from_last_year_is_stale_and_takes_nothing_away(site):
    before = site.roof.look().applied
    old = forge.claims_of(site.grants["roof"])
    old |= {"iat": old["iat"] - forge.YEAR, "licenses": []}
    stale = site.signer.sign("tally-grant+jwt", forge.text(old))
    (row,) = site.roof.call("POST", "/v1/inbox", stale.encode())[2]["results"]
    assert (row["outcome"], row["code"]) == ("stale", "grant-stale")
    assert site.roof.look().applied == before


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "not-text"), (b"\n#\n", "not-text"), (b"\0" * 100, "envelope-malformed")],
    ids=["empty", "blank", "zeros"],
)
def test_a_file_with_nothing_for_a_field_server_is_refused(site, data, code):
    said = site.roof.command("deliver", site.file("nothing.tally", data), expect=1)
    assert code in said.err


def test_a_file_that_is_not_there_is_named_everywhere(site):
    gone = site.directory / "gone.tally"
    assert "not-found" in site.roof.command("deliver", gone, expect=1).err
    assert "not-found" in site.activation.command("message", gone, "-o", site.directory / "x.tally", expect=1).err
    assert "not-found" in site.activation.command("catalog", "load", gone, expect=1).err
    assert "not-found" in site.technician("import", gone, expect=1).err
    assert "not-found" in site.technician("entitlement", "add", gone, expect=1).err
    for party in (
        site.technician("import", site.directory, expect=1),
        site.roof.command("deliver", site.directory, expect=1),
    ):
        assert "Next" in party.err or "." in party.err


# Device Administrator


def expected_at_a_technician(site):
    """What a technician's computer says of the lines for a field server: it knows both field servers, and their messages."""
    bad = dict(site.bad_down())
    del bad["a message of a field server"], bad["for another field server"]  # both are welcome there
    nobody = forge.claims_of(site.grants["roof"]) | {"sub": PrivateKey(b"n" * 32).public.thumbprint}
    bad["for a field server that is not in the list"] = forge.Bad(
        line=site.signer.sign("tally-grant+jwt", forge.text(nobody)).encode(), code="device-wrong"
    )
    return bad


def test_every_bad_line_of_an_import_gets_its_code_and_good_ones_go_through(site):
    bad = expected_at_a_technician(site)
    message = site.ask_for("refresh")
    (answer,) = site.post(message.encode())[2]
    file = site.file("import.tally", joined(bad) + joined({}, *answer["reply"].split()))
    told = site.technician("import", file, "--json", expect=4)
    codes = {row["line_number"]: row for row in told["bad"]}
    assert_codes([codes[number] for number in range(1, len(bad) + 1)], bad)
    assert site.roof.look().applied.compact == answer["reply"].split()[0]
    assert site.technician("status", "--json")["inbound"] == 0
    site.technician("import", site.file("only-bad.tally", joined(bad)), expect=1)
    site.technician("import", site.file("nothing.tally", b""), expect=1)


def test_an_archive_or_a_picture_in_the_import_box_is_named(site):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("reply.tally", site.grants["roof"])
    told = site.technician("import", site.file("reply.zip", packed.getvalue()), "--json", expect=1)
    assert [row["code"] for row in told["bad"]] == ["file-packed"]  # once, however many lines it happens to have
    assert all(row["next_step"] for row in told["bad"])


def bad_certificates(site):
    certificate = site.certificate
    claims = forge.claims_of(certificate)
    key, stranger = site.signer.key._key, PrivateKey(b"x" * 32)
    return {
        **{
            name: (bad.line, bad.code)
            for name, bad in forge.altered(certificate, key, stranger, with_jwk=False).items()
            if bad.code != "*"
        },
        "empty": (b"", "kind-unexpected"),
        "a grant": (site.grants["roof"].encode(), "kind-unexpected"),
        "another issuer": (PrivateKey(b"y" * 32).sign(ENTITLEMENT, forge.text(claims)).encode(), "key-unknown"),
        "in another name": (key.sign(ENTITLEMENT, forge.text(claims | {"iss": "another"})).encode(), "issuer-wrong"),
    }


def test_a_bad_certificate_is_refused_with_its_code_and_teaches_nothing(site):
    certificate = site.directory / "certificate.tally"
    site.activation.command("entitlement", "certificate", site.bought["entitlement_id"], "-o", certificate)
    site.certificate = lines_of(certificate.read_bytes())[-1]
    before = site.technician("entitlement", "list", "--json")
    failures = {}
    for name, (line, code) in bad_certificates(site).items():
        said = site.technician("entitlement", "add", site.file("bad-certificate.tally", line), expect=1)
        if not said.err.startswith(f"{code}:") or "Next:" not in said.err:
            failures[name] = said.err
    assert not failures
    assert site.technician("entitlement", "list", "--json") == before


def test_a_certificate_from_last_year_changes_nothing(site):
    certificate = site.directory / "certificate.tally"
    site.activation.command("entitlement", "certificate", site.bought["entitlement_id"], "-o", certificate)
    claims = forge.claims_of(lines_of(certificate.read_bytes())[-1])
    old = site.signer.sign(ENTITLEMENT, forge.text(claims | {"iat": claims["iat"] - forge.YEAR, "account": "before"}))
    before = site.technician("entitlement", "list", "--json")
    assert site.technician("entitlement", "add", site.file("old.tally", old.encode()), "--json")["added"] is False
    assert site.technician("entitlement", "list", "--json") == before
