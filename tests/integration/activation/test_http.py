"""The HTTP API of a real process, over real sockets, with every kind of body."""

import gzip
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.activation import ISSUER, Device, TestSigner
from support.served import MEDIA_TYPE
from tallystick.activation.core import entitlements
from tallystick.activation.core.exchanges import CHUNK_LINES_MAX
from tallystick.protocol import envelope, keys, messages, tallyfile

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def keyset(served):
    (line,) = tallyfile.parse_chunks([served.ask("GET", "/v1/keys").body])
    return keys.parse_keyset(line.envelope)


@pytest.fixture(scope="module")
def bought(served_data):
    return served_data.buy("smartdriver=100000", "external-log-storage=5")


def reply_of(keyset, compact):
    return messages.parse_reply(keyset.verify(envelope.open_envelope(compact.encode())))


def problem(answer, status, code):
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer
    document = answer.json
    assert document["code"] == code
    assert document["status"] == status
    assert document["next_step"]
    assert document["type"] == f"urn:tallystick:problem:{code}"
    return document


class TestSmallThings:
    def test_health(self, served):
        answer = served.ask("GET", "/healthz")
        assert (answer.status, answer.json["status"], answer.json["issuer"]) == (200, "ok", ISSUER)

    def test_keys_are_a_tally_file_with_the_keyset(self, served, served_data, keyset):
        answer = served.ask("GET", "/v1/keys")
        assert answer.headers["Content-Type"].startswith(MEDIA_TYPE)
        assert answer.body.decode() == keyset.compact + "\n"
        assert keyset.root_fingerprint == served_data.made["root_fingerprint"] == served.announced["root_fingerprint"]

    def test_no_such_path_and_no_such_method_are_problems(self, served):
        problem(served.ask("GET", "/v1/nothing"), 404, "not-found")
        answer = served.ask("GET", "/v1/messages")
        problem(answer, 405, "method-wrong")
        assert answer.headers["Allow"] == "POST"

    def test_the_openapi_document_names_every_path(self, served):
        paths = served.ask("GET", "/openapi.json").json["paths"]
        assert set(paths) >= {"/healthz", "/v1/keys", "/v1/messages", "/v1/entitlements/lookup", "/v1/lines/{line_id}"}


class TestMessages:
    def test_a_message_gets_its_reply_and_the_same_bytes_again(self, served, bought, keyset):
        device = Device("twice")
        message = device.activate((bought.lines[0], 2))
        first = served.post(message)
        assert first.headers["Content-Type"].startswith(MEDIA_TYPE)
        assert first.comments == []
        grant = reply_of(keyset, first.envelopes[0])
        assert (grant.sub, grant.licenses[0].quantity) == (device.id, 2)
        assert served.post(message).body == first.body
        assert served.post(message, message).envelopes == first.envelopes * 2

    def test_replies_stand_in_the_order_of_the_messages(self, served, bought, keyset):
        devices = [Device(f"order-{number}") for number in range(600)]
        answer = served.post(*(device.activate((bought.lines[0], 1)) for device in devices))
        assert [reply_of(keyset, compact).sub for compact in answer.envelopes] == [device.id for device in devices]

    def test_messages_of_one_field_server_may_stand_in_any_order(self, served, bought):
        device = Device("disordered")
        first, second = device.activate((bought.lines[0], 1)), device.say("refresh")
        assert [row["outcome"] for row in served.rows(second, first)] == ["granted", "granted"]

    def test_a_refusal_is_signed_and_says_why(self, served, bought, keyset):
        device = Device("wrong-kind", kind="AS-B")
        (compact,) = served.post(device.activate((bought.lines[1], 1))).envelopes
        refusal = reply_of(keyset, compact)
        assert refusal.code == "kind-mismatch"
        assert "AS-P, Edge Server" in refusal.reasons[0].expected

    def test_good_lines_go_through_beside_bad_ones(self, served, bought, keyset):
        good = Device("beside").activate((bought.lines[0], 1))
        certificate = served.ask(
            "POST", "/v1/entitlements/lookup", json.dumps({"entitlement_id": bought.entitlement_id})
        ).json["certificate"]
        lines = [
            "",
            "# a comment",
            "half a line",
            keyset.compact,
            certificate,
            good,
            TestSigner("stranger").keyset.compact,
            Device("elsewhere", aud="Another").say("refresh"),
            good[:-10] + "A" * 10,
        ]
        answer = served.post(*lines)
        assert answer.status == 200
        assert len(answer.envelopes) == 1
        assert [comment.split()[2] for comment in answer.comments] == ["3", "4", "5", "7", "8", "9"]
        rows = served.rows(*lines)
        assert [row["code"] for row in rows] == [
            "envelope-malformed",
            "kind-unexpected",
            "kind-unexpected",
            None,
            "kind-unexpected",
            "issuer-wrong",
            "signature-wrong",
        ]
        assert rows[3]["reply"] == answer.envelopes[0]
        assert rows[3]["digest"] == envelope.digest_of(good)

    def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(self, served):
        body = b"\xef\xbb\xbf# hello\r\n" + Device("windows").say("refresh").encode() + b"\r\n"
        (compact,) = served.ask("POST", "/v1/messages", body).envelopes
        assert compact.count(".") == 2

    def test_at_once_from_many_clients(self, served, bought, keyset):
        def one(number):
            device = Device(f"many-{number}")
            (compact,) = served.post(device.activate((bought.lines[0], 1))).envelopes
            device.take(compact)
            (credit,) = served.post(device.relinquish()).envelopes
            return reply_of(keyset, credit).credits[0].quantity

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(one, range(64))) == [1] * 64


class TestBadBodies:
    def test_nothing_at_all(self, served):
        problem(served.ask("POST", "/v1/messages", b""), 422, "no-messages")
        problem(served.ask("POST", "/v1/messages", b"\n# only a comment\n"), 422, "no-messages")

    @pytest.mark.parametrize(
        "body", [b"\x00" * 100, bytes(range(256)) * 20, "ä\u2028ö".encode(), b"<html>", b"PK\x03\x04" + b"x" * 500]
    )
    def test_binary(self, served, body):
        answer = served.ask("POST", "/v1/messages", body)
        assert answer.status == 200
        assert answer.envelopes == []
        is_named = "file-packed" if body[:2] == b"PK" else "envelope-malformed"
        assert all(is_named in comment for comment in answer.comments)
        assert answer.comments

    def test_a_line_without_end(self, served):
        def body():
            for _ in range(64):
                yield b"x" * MEBIBYTE

        answer = served.ask("POST", "/v1/messages", body(), Accept="application/json")
        (row,) = answer.json
        assert (row["code"], row["outcome"]) == ("line-too-long", "error")
        assert str(64 * MEBIBYTE) in row["detail"]

    def test_lines_without_end_are_no_tally_file(self, served):
        problem(served.ask("POST", "/v1/messages", b"x\n" * 20_000), 422, "not-text")

    def test_compressed(self, served):
        body = gzip.compress(Device("gzip").say("refresh").encode())
        problem(served.ask("POST", "/v1/messages", body, Content_Encoding="gzip"), 422, "not-text")

    def test_a_body_that_breaks_off_leaves_the_process_well(self, served):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            connection.recv(1000)
        assert served.ask("GET", "/healthz").status == 200

    @pytest.mark.parametrize("end", ["\n", ""])
    @pytest.mark.parametrize(
        "count", [1, 2, CHUNK_LINES_MAX - 1, CHUNK_LINES_MAX, CHUNK_LINES_MAX + 1, 2 * CHUNK_LINES_MAX]
    )
    def test_no_line_is_left_out_whatever_the_number_and_whether_the_last_one_ends(self, served, bought, count, end):
        message = Device("counted").activate((bought.lines[0], 1))
        answer = served.ask("POST", "/v1/messages", "\n".join([message] * count).encode() + end.encode())
        assert len(answer.envelopes) == count

    def test_a_long_bundle_has_its_replies_when_a_client_sends_all_before_it_reads(self, served, bought):
        """More than any socket buffers: replying while reading would be a stand-still."""
        device = Device("long")
        message = device.activate((bought.lines[0], 1))
        answer = served.ask("POST", "/v1/messages", f"{message}\n".encode() * 6000)
        assert len(answer.envelopes) == 6000
        assert len(set(answer.envelopes)) == 1
        assert len(answer.body) > 3 * MEBIBYTE

    def test_slow_clients_do_not_keep_others_waiting(self, served, bought):
        slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(50)]
        try:
            for connection in slow:
                connection.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
                connection.sendall(Device("slow").say("refresh").encode()[:50])
            begin = time.monotonic()
            assert served.rows(Device("quick").activate((bought.lines[0], 1)))[0]["outcome"] == "granted"
            assert time.monotonic() - begin < 20
        finally:
            for connection in slow:
                connection.close()

    def test_a_client_that_never_reads_does_not_keep_others_waiting(self, served, bought):
        message = f"{Device('deaf').activate((bought.lines[0], 1))}\n".encode() * 6000
        with socket.create_connection(("127.0.0.1", served.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(message)}\r\n\r\n"
            deaf.sendall(head.encode() + message)
            assert served.rows(Device("hearing").activate((bought.lines[0], 1)))[0]["outcome"] == "granted"


class TestLookup:
    def ask(self, served, document, **headers):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return served.ask("POST", "/v1/entitlements/lookup", body, **headers)

    def test_who_knows_the_id_learns_the_lines(self, served, bought, keyset):
        document = self.ask(served, {"entitlement_id": bought.entitlement_id.lower().replace("-", " ")}).json
        assert (document["entitlement_id"], document["account"]) == (bought.entitlement_id, "Harbour")
        line = document["lines"][1]
        assert line["activation_id"] == str(bought.lines[1].activation_id)
        assert (line["product"], line["quantity"], line["available"], line["expires"]) == (
            "external-log-storage",
            5,
            5,
            None,
        )
        assert (line["kinds"], line["one_carry"]) == (["AS-P", "Edge Server"], False)
        verified = keyset.verify(envelope.open_envelope(document["certificate"].encode()))
        certificate = messages.parse_entitlement(verified)
        assert [line.line for line in certificate.lines] == [line.line_id for line in bought.lines]

    def test_or_gets_the_tally_file(self, served, bought, keyset):
        answer = self.ask(served, {"entitlement_id": bought.entitlement_id}, Accept=MEDIA_TYPE)
        assert answer.headers["Content-Type"].startswith(MEDIA_TYPE)
        assert answer.envelopes[0] == keyset.compact
        assert len(answer.envelopes) == 2

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"entitlement_id": "EN-123"}, 422, "entitlement-id-mistyped"),
            ({"entitlement_id": "x" * 60_000}, 422, "entitlement-id-mistyped"),
            ({"entitlement_id": "EN-00000000000000000000000000" + "0"}, 404, "not-found"),
            ({"entitlement_id": 5}, 422, "claims-malformed"),
            ({"entitlement_id": "EN-1", "more": 1}, 422, "claims-malformed"),
            ({}, 422, "claims-malformed"),
            (b"", 422, "json-malformed"),
            (b"\xff\xfe", 422, "json-malformed"),
            (b'{"entitlement_id": "a", "entitlement_id": "b"}', 422, "json-malformed"),
            (b"[" * 60_000, 422, "json-malformed"),
            (b"x" * 100_000, 413, "body-too-large"),
        ],
    )
    def test_anything_else_is_a_problem_with_its_code(self, served, body, status, code):
        problem(self.ask(served, body), status, code)

    def test_one_symbol_mistyped_is_found_before_anything_is_looked_up(self, served, bought):
        typed = bought.entitlement_id
        other = "0" if typed[5] != "0" else "1"
        problem(self.ask(served, {"entitlement_id": typed[:5] + other + typed[6:]}), 422, "entitlement-id-mistyped")


def test_what_commands_change_is_seen_by_the_process_at_once(served, served_data):
    made = served_data.buy("mqtt-client=1")
    device = Device("beside-commands")
    assert served.rows(device.activate((made.lines[0], 2)))[0]["code"] == "not-enough"
    served_data.ok("line", "change", made.lines[0].line_id, "--quantity", "2")
    assert served.rows(device.activate((made.lines[0], 2)))[0]["outcome"] == "granted"
    assert served_data.line(made.lines[0])["held"] == 2


def test_commands_and_clients_at_once_all_get_through(served, served_data):
    made = served_data.buy("mqtt-client=40")
    line = made.lines[0]
    stop = threading.Event()

    def clients(number):
        rows = []
        for place in range(10):
            rows += served.rows(Device(f"beside-{number}-{place}").activate((line, 1)))
        return [row["outcome"] for row in rows]

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(clients, number) for number in range(3)]
        for quantity in range(41, 46):
            served_data.ok("line", "change", line.line_id, "--quantity", str(quantity))
        outcomes = [outcome for future in running for outcome in future.result()]
    stop.set()
    assert outcomes == ["granted"] * 30
    assert served_data.line(line)["available"] == 15


def test_the_books_add_up_after_all_of_this(served_data, bought):
    assert served_data.ok("verify")["green"] is True
    assert entitlements.quantity_of(bought.lines[0]) == 100_000
