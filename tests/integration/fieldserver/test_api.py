"""The API of a real field server process, over real TLS."""

import json
import socket
import ssl
import threading
import time

import pytest

from support.fieldserver.helpers import LINE, Issuer, activation_id, license_claim
from support.fieldserver.processes import FieldServer, basic, run
from tallystick.fieldserver.certificate import fingerprint_of
from tallystick.protocol import envelope, messages
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.problems import BY_CODE

ISSUER = Issuer()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    server = FieldServer(tmp_path_factory.mktemp("shared") / "data").start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def server(tmp_path):
    field_server = FieldServer(tmp_path / "data").start()
    yield field_server
    field_server.stop()


def assert_problem(answer, status, code):
    seen, headers, body = answer
    assert (seen, body["code"]) == (status, code), body
    assert headers["Content-Type"] == "application/problem+json"
    assert body["status"] == BY_CODE[code].status == status
    assert body["type"] == f"urn:tallystick:problem:{code}"
    assert body["expected"]
    assert body["seen"]
    assert body["next_step"]


def test_anybody_learns_who_it_is(shared):
    status, _, body = shared.call("GET", "/v1/identity", password=False)
    assert status == 200
    assert body == {
        "device_id": shared.id,
        "kind": "AS-P",
        "host_id": "host-plant-room",
        "name": "plant-room",
        "software": body["software"],
        "certificate_fingerprint": shared.made["certificate_fingerprint"],
        "root_fingerprint": None,
        "issuer": None,
        "keyset_version": None,
        "protocol": 1,
        "activation": None,
        "trust": "first-delivery",  # as these tests began it
    }


def test_the_certificate_that_it_shows_is_the_one_that_it_has(shared):
    pem = ssl.get_server_certificate(("127.0.0.1", shared.port))
    assert fingerprint_of(pem.encode()) == shared.made["certificate_fingerprint"]


def test_plain_http_gets_nothing(shared):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=120) as plain:
        plain.sendall(b"GET /v1/identity HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"device_id" not in plain.recv(1000)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/licenses"),
        ("GET", "/v1/outbox"),
        ("GET", "/v1/checks/mqtt"),
        ("POST", "/v1/requests"),
        ("POST", "/v1/inbox"),
    ],
)
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic !!"}])
def test_everything_else_needs_the_password(shared, method, path, header):
    answer = shared.call(method, path, password=False, headers=header)
    assert_problem(answer, 401, "password-wrong")
    assert answer[1]["WWW-Authenticate"].startswith("Basic ")
    assert answer[1]["Retry-After"] is None


def test_any_user_name_will_do(shared):
    headers = {"Authorization": basic(shared.password, user="somebody")}
    assert shared.call("GET", "/v1/outbox", headers=headers)[0] == 200


@pytest.mark.slow
def test_wrong_passwords_are_slowed_down(server):
    assert_problem(server.call("GET", "/v1/licenses", password="wrong"), 401, "password-wrong")
    answer = server.call("GET", "/v1/licenses")  # the right one, too soon
    assert_problem(answer, 429, "too-many-tries")
    time.sleep(int(answer[1]["Retry-After"]))
    assert server.call("GET", "/v1/licenses")[0] == 200


def test_wrong_passwords_in_parallel_are_one_try(server):
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(server.call("GET", "/v1/outbox", password="wrong")[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [401] + [429] * 7


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/licenses/", "/v2/identity", "/v1/checks/", "/v1/checks/a/b", "/%00"])
def test_an_unknown_path_is_a_problem(shared, path):
    assert_problem(shared.call("GET", path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("PUT", "/v1/inbox", "POST"), ("DELETE", "/v1/identity", "GET")]
)
def test_an_unknown_method_is_a_problem(shared, method, path, allowed):
    answer = shared.call(method, path)
    assert_problem(answer, 405, "method-wrong")
    assert allowed in answer[1]["Allow"]


BAD_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"purpose":"refresh","purpose":"relinquish"}',
    b'{"purpose":"refresh","x":1}',
    b'{"purpose":"confirm"}',
    b'{"purpose":"refresh","all":true}',
    b'{"purpose":"return"}',
    b'{"purpose":"return","all":false}',
    b'{"purpose":"return","all":true,"wants":[{"line":"7K3M9Q2A","quantity":1}]}',
    b'{"purpose":"return","wants":[]}',
    b'{"purpose":"return","wants":[{"quantity":1}]}',
    b'{"purpose":"activate","wants":[{"line":"7K3M9Q2A","quantity":1}]}',
    b'{"purpose":"return","wants":[{"line":"7K3M9Q2A","quantity":-1}]}',
    b'{"purpose":"return","wants":[{"line":"7K3M9Q2A","quantity":1.0}]}',
    b"[" * 60_000,
]


@pytest.mark.parametrize("body", BAD_JSON, ids=range(len(BAD_JSON)))
def test_a_request_that_is_none_is_a_problem(shared, body):
    status, headers, answer = shared.post_request(body)
    assert status == 422, answer
    assert headers["Content-Type"] == "application/problem+json"
    assert answer["code"] in {"json-malformed", "claims-malformed"}


def test_a_request_of_another_type_is_a_problem(shared):
    assert_problem(shared.post_request(b'{"purpose":"refresh"}', "text/plain"), 422, "json-malformed")


def test_a_mistyped_activation_id_is_named(shared):
    text = str(activation_id())
    text = text[:-1] + ("0" if text[-1] != "0" else "1")
    body = json.dumps({"purpose": "activate", "wants": [{"activation_id": text, "quantity": 1}]}).encode()
    assert_problem(shared.post_request(body), 422, "activation-id-mistyped")


def test_a_request_before_any_root_is_refused(shared):
    assert_problem(shared.post_request(b'{"purpose":"refresh"}'), 409, "no-root")


def test_a_json_body_beyond_its_limit_is_refused(shared):
    assert_problem(shared.post_request(b" " * 65_537), 413, "body-too-large")


@pytest.mark.slow
def test_an_inbox_beyond_its_limit_is_refused_by_its_announcement(shared):
    connection = shared.connect()
    connection.putrequest("POST", "/v1/inbox")
    connection.putheader("Authorization", basic(shared.password))
    connection.putheader("Content-Length", str(10 * 2**30))
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (413, "body-too-large")
    connection.close()


def test_an_inbox_beyond_its_limit_is_refused_while_it_streams(shared):
    def chunks():
        for _ in range(17):
            yield b"#" * 2**20

    answer = shared.call("POST", "/v1/inbox", chunks())
    assert_problem(answer, 413, "body-too-large")


def test_an_inbox_of_too_many_lines_is_refused(shared):
    assert_problem(shared.call("POST", "/v1/inbox", b"x\n" * 30_000), 413, "body-too-large")


@pytest.mark.parametrize("body", [b"", b"\n\n", b"# only a comment\n", b"\xef\xbb\xbf"])
def test_an_inbox_with_nothing_in_it_is_no_harm(shared, body):
    status, _, answer = shared.call("POST", "/v1/inbox", body)
    assert (status, answer) == (200, {"results": [], "waiting": 0})


def test_junk_gets_a_code_and_a_next_step_per_line(shared):
    body = b"\x00\x01binary\n" + b"x" * 70_000 + b"\n" + b"a.b.c\n<html>\n"
    status, _, answer = shared.call("POST", "/v1/inbox", body)
    assert status == 200
    assert [line["code"] for line in answer["results"]] == ["envelope-malformed", "line-too-long"] + [
        "envelope-malformed"
    ] * 2
    assert all(
        line["outcome"] == "error" and line["next_step"] and line["digest"] is None for line in answer["results"]
    )


def test_a_client_that_sends_a_byte_a_second_keeps_nobody_waiting(shared):
    slow = []
    for head in (b"", b"GET /v1/identity HTTP/1.1\r\nHost:"):
        raw = socket.create_connection(("127.0.0.1", shared.port), timeout=120)
        tls = shared.context().wrap_socket(raw, server_hostname="localhost")
        tls.sendall(head)
        slow.append(tls)
    raw = socket.create_connection(("127.0.0.1", shared.port), timeout=120)  # not even a handshake
    body = shared.connect()
    body.putrequest("POST", "/v1/inbox")
    body.putheader("Authorization", basic(shared.password))
    body.putheader("Content-Length", "1000")
    body.endheaders()
    body.send(b"x")
    begun = time.monotonic()
    for _ in range(5):
        shared.get("/v1/licenses")
    assert time.monotonic() - begun < 20
    for connection in (*slow, raw, body):
        connection.close()


@pytest.mark.slow
def test_many_idle_connections_keep_nobody_out(server):
    idle = []
    for _ in range(300):
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        idle.append(server.context().wrap_socket(raw, server_hostname="localhost"))
    assert server.get("/v1/licenses")["epoch"] == 1
    for connection in idle:
        connection.close()


@pytest.mark.parametrize("used", ["x", "-1", "1.5", "99999999999", "", "0" * 5000, "%C2%B2"])
def test_a_check_with_a_wrong_count_is_a_problem(shared, used):
    assert_problem(shared.call("GET", f"/v1/checks/mqtt?used={used}"), 422, "quantity-wrong")


def test_a_check_is_remembered_in_the_table_of_features(shared):
    body = shared.get("/v1/checks/some.feature?used=7")
    assert (body["standing"], body["required"], body["licensed"]) == ("not-licensed", 7, False)
    (row,) = [row for row in shared.get("/v1/licenses")["features"] if row["feature"] == "some.feature"]
    assert (row["required"], row["violation"], row["activated"]) == (7, True, 0)


def test_the_whole_way_from_keys_to_relinquish(server):
    key = activation_id()
    assert server.deliver(ISSUER.keyset())["results"][0]["outcome"] == "applied"
    identity = server.call("GET", "/v1/identity", password=False)[2]
    assert (identity["issuer"], identity["keyset_version"]) == ("vendor.example", 1)
    assert identity["root_fingerprint"] == ISSUER.root.public.thumbprint

    asked = server.ask(purpose="activate", wants=[{"activation_id": str(key).lower(), "quantity": 2}])
    again = server.ask(purpose="activate", wants=[{"activation_id": str(key), "quantity": 2}])
    assert (asked["sequence"], asked["purpose"], asked["repeated"]) == (1, "activate", False)
    assert again == {**asked, "repeated": True}
    message = open_envelope(asked["message"].encode())
    request = messages.parse_request(envelope.verify(message, message.jwk))
    assert messages.is_proof_valid(key, request.wants[0].proof, server.id, request.jti)
    status, headers, outbox = server.call("GET", "/v1/outbox")
    assert (status, headers["Content-Type"]) == (200, "application/x-tally")
    assert outbox == (asked["message"] + "\n").encode()

    grant = ISSUER.grant(
        server.id, 1, request=asked["digest"], seen=1, confirm=True, licenses=(license_claim(quantity=2),)
    )
    answer = server.deliver("# response", grant, "junk", ISSUER.grant("x" * 43, 1))
    assert [(line["line_number"], line["outcome"], line["code"]) for line in answer["results"]] == [
        (2, "applied", None),
        (3, "error", "envelope-malformed"),
        (4, "error", "device-wrong"),
    ]
    assert answer["waiting"] == 1
    assert server.get("/v1/checks/mqtt?used=2")["licensed"]
    licenses = server.get("/v1/licenses")
    assert licenses["applied"]["number"] == 1
    assert licenses["licenses"][0] == {
        "license": f"LC-{LINE}",
        "line": LINE,
        "product": "mqtt-client",
        "quantity": 2,
        "features": {"mqtt": 1},
        "expires": None,
        "engineering": False,
        "one_carry": True,
        "expired": False,
    }
    assert [row["purpose"] for row in licenses["outbox"]] == ["confirm"]
    assert [(row["sequence"], row["outcome"]) for row in licenses["outcomes"]] == [(1, "granted")]

    first = server.ask(purpose="relinquish")
    assert server.ask(purpose="relinquish") == {**first, "repeated": True}
    assert not server.get("/v1/checks/mqtt?used=2")["licensed"]
    assert server.get("/v1/licenses")["epoch"] == 2
    assert server.deliver(grant)["results"][0]["code"] == "grant-stale"
    answer = server.deliver(ISSUER.credit(server.id, first["digest"], seen=3))
    assert (answer["results"][0]["outcome"], answer["waiting"]) == ("noted", 0)


@pytest.mark.slow
def test_the_command_line_works_beside_the_running_agent(server, tmp_path):
    data = ["--data", server.directory, "--json"]
    keys = tmp_path / "keys.tally"
    keys.write_text(ISSUER.keyset() + "\n")
    assert run("deliver", keys, *data)[0]["results"][0]["outcome"] == "applied"
    by_command, _ = run("request", "refresh", *data)
    assert server.ask(purpose="refresh") == {**by_command, "repeated": True}
    by_api = server.ask(purpose="relinquish")
    outbox, _ = run("outbox", *data)
    assert [row["digest"] for row in outbox["messages"]] == [by_command["digest"], by_api["digest"]]
    reply = tmp_path / "reply.tally"
    reply.write_text(ISSUER.grant(server.id, 1, epoch=2, request=by_api["digest"], seen=2) + "\n")
    run("deliver", reply, *data)
    assert server.get("/v1/outbox") == b""
    time.sleep(1.1)
    assert server.get("/v1/checks/mqtt")["licensed"]


def test_a_second_agent_on_the_same_port_says_so(server):
    port = ["--port", str(server.port)]
    problem, err = run("run", "--data", server.directory, *port, "--json", expect=1)
    assert problem["code"] == "address-taken"
    assert "address-taken" in err
