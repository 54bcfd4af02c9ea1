"""The drills of docs/operations/drills.md, each command of it run with real processes, and what it changed."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from support.processes import make_activation, run, serving, wait_until

pytestmark = pytest.mark.slow


def asked(url, token=None):
    """The status of a request."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture
def made(tmp_path):
    return make_activation(tmp_path)


def field_server(directory, name="roof"):
    who = ("--kind", "AS-P", "--name", name, "--host-id", name, "--trust-first")
    return run("fieldserver", "init", "--data", directory / name, *who)


def test_a_stolen_laptop_reaches_nothing_any_more(tmp_path, made):
    data, _, bought = made
    laptop, other = ({"TALLYSTICK_HOME": str(tmp_path / name)} for name in ("laptop", "other"))
    line, reference = bought["lines"][0]["line"], bought["entitlement"]
    init = field_server(tmp_path)
    with serving("activation", "serve", "--data", data, "--port", "0") as (told, _):
        token = run(
            *("activation", "token", "create", "ada's laptop", "--role", "vendor-support", "--days", 30, "--data", data)
        )
        with serving("fieldserver", "run", "--data", tmp_path / "roof", "--port", "0") as (roof, _):
            port = roof["url"].rpartition(":")[2].strip("/")
            run("admin", "entitlement", "add", bought["entitlement_id"], "--activation", told["url"], env=laptop)
            run("admin", "add", roof["url"], "--password-file", init["password_file"], env=laptop)
            run("admin", "activate", "roof", "--line", f"{line}=1", env=laptop)
            device_id = run("fieldserver", "status", "--data", tmp_path / "roof")["device_id"]
            words = ("--role", "courier", "--account", "Harbour", "--days", 30, "--data", data)
            courier = run("activation", "token", "create", "a courier", "--field-server", device_id, *words)
        assert asked(f"{told['url']}/v1/lines", token["token"]) == 200
        assert asked(f"{told['url']}/v1/lines", courier["token"]) == 403
        old_password = Path(init["password_file"]).read_text()
        (known,) = run("activation", "entitlement", "reveal", reference, "--data", data)["lines"]
        run("fieldserver", "request", "activate", f"{known['activation_id']}=5", "--data", tmp_path / "roof")
        run("fieldserver", "outbox", "--data", tmp_path / "roof", "-o", tmp_path / "kept.tally")

        person = run(
            *(
                "activation",
                "person",
                "invite",
                "ada@example.com",
                "--name",
                "Ada",
                "--role",
                "vendor-support",
                "--data",
                data,
            )
        )
        ended = run("activation", "person", "change", "ada@example.com", "--deactivate", "--data", data)
        assert person["is_active"] is not False
        assert ended["is_active"] is False
        for one in (token, courier):
            assert one["token_id"] in json.dumps(run("activation", "token", "list", "--data", data))
            run("activation", "token", "revoke", one["token_id"], "--data", data)
        replaced = run("activation", "entitlement", "rotate-secret", reference, "--data", data)
        new = run("fieldserver", "new-password", "--new-certificate", "--data", tmp_path / "roof")

        assert {asked(f"{told['url']}/v1/lines", one["token"]) for one in (token, courier)} == {401}
        kept = urllib.request.Request(
            f"{told['url']}/v1/messages", (tmp_path / "kept.tally").read_bytes(), {"Accept": "application/json"}
        )
        with urllib.request.urlopen(kept, timeout=300) as answer:
            assert "activation-id-wrong" in answer.read().decode()  # written before the drill, delivered after it
        with serving("fieldserver", "run", "--data", tmp_path / "roof", "--port", port) as (roof, _):
            stolen = json.dumps(run("admin", "activate", "roof", "--line", f"{line}=2", expect=None, env=laptop))
            assert "certificate-changed" in stolen  # not even the old password is sent
            run("admin", "remove", "roof", "--force", env=laptop)
            (tmp_path / "old").write_text(old_password)
            words = ("--password-file", tmp_path / "old", "--fingerprint", new["certificate_fingerprint"])
            assert "password-wrong" in json.dumps(run("admin", "add", roof["url"], *words, expect=None, env=laptop))
            run(
                "admin",
                "entitlement",
                "add",
                bought["entitlement_id"],
                "--activation",
                told["url"],
                expect=1,
                env=other,
            )
            # What the field server holds stays, and a new laptop goes on.
            run("admin", "entitlement", "add", replaced["entitlement_id"], "--activation", told["url"], env=other)
            words = ("--password-file", new["password_file"], "--fingerprint", new["certificate_fingerprint"])
            run("admin", "add", roof["url"], *words, env=other)
            run("admin", "activate", "roof", "--line", f"{line}=2", env=other)
        # The old activation ID opens nothing, whatever password its owner has.
        with serving("fieldserver", "run", "--data", tmp_path / "roof", "--port", port):
            run("admin", "add", roof["url"], "--password-file", new["password_file"], expect=None, env=laptop)
            stolen = json.dumps(run("admin", "activate", "roof", "--line", f"{line}=3", expect=None, env=laptop))
            assert "activation-id-wrong" in stolen
        assert run("fieldserver", "status", "--data", tmp_path / "roof")["licenses"]


def test_a_stolen_backup_opens_nothing_once_its_secrets_were_replaced(tmp_path, made):
    data, _, bought = made
    reference = bought["entitlement"]
    hook = run("activation", "webhooks", "add", "https://hooks.example/a", "--data", data)
    run("activation", "backup", "-o", tmp_path / "a.tar.gz", "--data", data)
    thief = tmp_path / "thief"
    run("activation", "restore", "--from", tmp_path / "a.tar.gz", "--data", thief)
    # No key is in it: whoever has it can sign nothing.
    assert run("activation", "lines", "--data", thief, expect=1)["code"] == "keys-unusable"

    replaced = run("activation", "entitlement", "rotate-secret", reference, "--data", data)
    rotated = run("activation", "webhooks", "rotate-secret", hook["webhook_id"], "--data", data)

    assert replaced["entitlement_id"] != bought["entitlement_id"]
    assert rotated["secret"] != hook["secret"]
    laptop = {"TALLYSTICK_HOME": str(tmp_path / "laptop")}
    with serving("activation", "serve", "--data", data, "--port", "0") as (told, _):
        run("admin", "entitlement", "add", bought["entitlement_id"], "--activation", told["url"], expect=1, env=laptop)
        run("admin", "entitlement", "add", replaced["entitlement_id"], "--activation", told["url"], env=laptop)


def test_a_stolen_signing_key_signs_nothing_that_a_synchronised_field_server_takes(tmp_path, made):
    data, _, bought = made
    root, line = tmp_path / "root.pem", bought["lines"][0]["line"]
    (data / "keys" / "root.pem").rename(root)
    laptop = {"TALLYSTICK_HOME": str(tmp_path / "laptop")}
    init = field_server(tmp_path)
    old = run("activation", "keys", "list", "--data", data)
    stolen = next(key["kid"] for key in old["keys"] if key["signs"])
    with (
        serving("fieldserver", "run", "--data", tmp_path / "roof", "--port", "0") as (roof, _),
        serving("activation", "serve", "--data", data, "--port", "0") as (told, _),
    ):
        run("admin", "entitlement", "add", bought["entitlement_id"], "--activation", told["url"], env=laptop)
        run("admin", "add", roof["url"], "--password-file", init["password_file"], env=laptop)
        run("admin", "activate", "roof", "--line", f"{line}=1", env=laptop)
        shutil.copytree(data, tmp_path / "thief")  # with the signing key, and all of the books

        run("activation", "keys", "rotate", "--overlap-hours", "0", "--root", root, "--data", data)
        run("activation", "keys", "retire", stolen, "--remove", "--root", root, "--data", data)
        wait_until(
            lambda: (
                urllib.request.urlopen(f"{told['url']}/v1/keys").read().decode().strip()
                == (data / "keyset.tally").read_text().splitlines()[-1]
            ),
            what="the new keyset in service",
        )
        run("admin", "sync", env=laptop)
        run("admin", "activate", "roof", "--line", f"{line}=2", env=laptop)
    # The thief grants with the stolen key; the field server does not take it.
    run("fieldserver", "request", "refresh", "--data", tmp_path / "roof")
    run("fieldserver", "outbox", "--data", tmp_path / "roof", "-o", tmp_path / "requests.tally")
    with serving("activation", "serve", "--data", tmp_path / "thief", "--port", "0") as (thief, _):
        request = urllib.request.Request(f"{thief['url']}/v1/messages", data=(tmp_path / "requests.tally").read_bytes())
        forged = tmp_path / "forged.tally"
        forged.write_bytes(urllib.request.urlopen(request).read())
    before = run("fieldserver", "status", "--data", tmp_path / "roof")
    told = json.dumps(run("fieldserver", "deliver", forged, "--data", tmp_path / "roof", expect=None))
    assert "key-unknown" in told
    assert run("fieldserver", "status", "--data", tmp_path / "roof")["licenses"] == before["licenses"]
