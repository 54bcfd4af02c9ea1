"""Webhooks, the stream, metrics, readiness and logs of a real process."""

from __future__ import annotations

import json
import re
import signal

import httpx2
import pytest

from support.processes import make_activation, run, serving, wait_until
from support.receiver import Receiver, is_signed

pytestmark = pytest.mark.slow


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.close()


def test_events_reach_a_webhook_signed_and_are_polled_and_replayed(tmp_path, receiver):
    env = {"TALLYSTICK_WEBHOOKS_ALLOW_PRIVATE": "127.0.0.0/8", "TALLYSTICK_OPERATIONS_TOKEN": "open sesame"}
    data, _, bought = make_activation(tmp_path, env=env)
    refused = run("activation", "webhooks", "add", receiver.url, "--data", data, expect=1)
    assert refused["code"] == "webhook-target"
    hook = run("activation", "webhooks", "add", receiver.url, "--after", "0", "--data", data, env=env)
    line = bought["lines"][0]["line"]
    receiver.failures = 1
    with serving("activation", "serve", "--data", data, "--port", "0", env=env) as (told, _):
        run("activation", "line", "change", line, "--quantity", "9", "--data", data, env=env)
        wait_until(lambda: len(receiver.got) == 2, seconds=30, what="two events, one of them tried again")
        for headers, body in receiver.got:
            assert is_signed(headers, body, hook["secret"])
            assert not is_signed(headers, body + b" ", hook["secret"])
        assert {json.loads(body)["type"] for _, body in receiver.got} == {"entitlement.created", "line.changed"}
        url = f"{told['url']}/v1/events"
        assert httpx2.get(url).status_code == 401
        assert httpx2.get(url, headers={"Authorization": "Bearer nonsense"}).json()["code"] == "token-wrong"
        client = httpx2.Client(headers={"Authorization": "Bearer open sesame"})
        first = client.get(url, params={"limit": 1}).json()
        assert (first["next"], first["has_more"]) == (1, True)
        second = client.get(url, params={"after": 1}).json()
        assert [event["type"] for event in second["events"]] == ["line.changed"]
        assert client.get(url, params={"after": second["next"]}).json()["events"] == []
        assert client.get(url, params={"after": 10**9}).json()["code"] == "cursor-wrong"
        assert client.get(url, params={"limit": 0}).status_code == 422
        client.close()
        polled = {event["id"] for event in (first["events"] + second["events"])}
        assert polled == {json.loads(body)["id"] for _, body in receiver.got}
        run("activation", "webhooks", "replay", hook["webhook_id"], "--after", "0", "--data", data, env=env)
        wait_until(lambda: len(receiver.got) == 4, what="both again")
    found = run("activation", "webhooks", "deliveries", hook["webhook_id"], "--data", data, env=env)
    assert {one["state"] for one in found} == {"delivered"}
    assert len(run("activation", "events", "--data", data, env=env)) == 2
    assert hook["secret"] not in json.dumps(run("activation", "webhooks", "list", "--data", data, env=env))
    run("activation", "webhooks", "remove", hook["webhook_id"], "--data", data, env=env)


def test_events_survive_a_kill_between_commit_and_delivery(tmp_path, receiver):
    env = {"TALLYSTICK_WEBHOOKS_ALLOW_PRIVATE": "127.0.0.1"}
    data, _, _ = make_activation(tmp_path, env=env)
    run("activation", "webhooks", "add", receiver.url, "--after", "0", "--data", data, env=env)
    receiver.failures = 10**6
    with serving("activation", "serve", "--data", data, "--port", "0", env=env) as (_, process):
        wait_until(lambda: receiver.failures < 10**6, what="a first try")
        process.send_signal(signal.SIGKILL)
        process.wait()
    receiver.failures = 0
    with serving("activation", "serve", "--data", data, "--port", "0", env=env):
        wait_until(lambda: receiver.got, seconds=45, what="the event after the crash")


def test_metrics_readiness_request_ids_and_json_logs(tmp_path):
    data, _, _ = make_activation(tmp_path)
    env = {"TALLYSTICK_LOG_FORMAT": "json", "TALLYSTICK_LOG_LEVEL": "info", "TALLYSTICK_LOG_REQUESTS": "true"}
    with (
        (tmp_path / "log").open("wb") as log,
        serving("activation", "serve", "--data", data, "--port", "0", env=env, stderr=log) as (told, _),
    ):
        url = told["url"]
        ready = httpx2.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert set(ready.json()["checks"]) == {"process", "keys", "database"}
        given = httpx2.get(f"{url}/healthz", headers={"X-Request-Id": "mine-1"})
        assert given.headers["x-request-id"] == "mine-1"
        made = httpx2.get(f"{url}/healthz", headers={"X-Request-Id": "no good\u00e9".encode("latin-1")})
        assert re.fullmatch("[0-9a-f]{16}", made.headers["x-request-id"])
        missing = httpx2.get(f"{url}/nonsense")
        assert (missing.status_code, "x-request-id" in missing.headers) == (404, True)
        httpx2.post(f"{url}/v1/messages", content=b"nonsense\n")
        text = httpx2.get(f"{url}/metrics").text
        assert 'tallystick_messages_total{code="envelope-malformed",outcome="error"} 1.0' in text
        assert 'tallystick_http_requests_total{method="GET",route="/healthz",status="200"} 2.0' in text
        assert 'route="none",status="404"' in text
        assert "tallystick_database_up 1.0" in text
        assert httpx2.get(f"{url}/metrics", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 401
        assert httpx2.get(f"{url}/v1/events").status_code == 401  # no token is set: closed
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ours = [line for line in lines if line.get("request_id") == "mine-1"]
    assert ours
    assert {"method": "GET", "route": "/healthz", "status": 200}.items() <= ours[0].items()
