"""Rotation and hand-over while real processes serve: nobody touches a field server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from support.processes import make_activation, run, serving, wait_until

pytestmark = pytest.mark.slow


def fetch_keys(url):
    import httpx2

    return httpx2.get(f"{url}/v1/keys").text.strip()


def test_field_servers_and_device_administrators_follow_a_rotation_and_a_hand_over_by_themselves(tmp_path):
    data, made, bought = make_activation(tmp_path)
    root = tmp_path / "safe-root.pem"
    (data / "keys" / "root.pem").rename(root)
    laptop = {"TALLYSTICK_HOME": str(tmp_path / "laptop")}
    line = bought["lines"][0]["line"]

    def admin(*words, expect=0):
        return run("admin", *words, expect=expect, env=laptop)

    def field_server(name, *options):
        who = ("--kind", "AS-P", "--name", name, "--host-id", name, "--root", made["root_fingerprint"])
        init = run("fieldserver", "init", "--data", tmp_path / name, *who)
        return init, lambda port=0: serving("fieldserver", "run", "--data", tmp_path / name, "--port", port, *options)

    def status(name):
        return run("fieldserver", "status", "--data", tmp_path / name)

    with serving("activation", "serve", "--data", data, "--port", "0") as (told, _):
        url = told["url"]
        first, first_run = field_server("alone", "--activation", url)
        second, second_run = field_server("helped")
        with second_run() as (helped, _):
            with first_run() as (alone, _):
                admin("entitlement", "add", bought["entitlement_id"], "--activation", url)
                for name, init, at in (("alone", first, alone), ("helped", second, helped)):
                    admin("add", at["url"], "--password-file", init["password_file"])
                    admin("activate", name, "--line", f"{line}=1")
                    assert status(name)["keyset_version"] == 1
            before = fetch_keys(url)
            rotated = run("activation", "keys", "rotate", "--root", root, "--data", data, "--overlap-hours", "0")
            assert rotated["version"] == 2
            wait_until(lambda: fetch_keys(url) != before, what="the new keyset in service")
            # With a route of its own: a reply that it cannot check yet makes it ask for the keys.
            run("fieldserver", "request", "refresh", "--data", tmp_path / "alone")
            with first_run(alone["url"].rpartition(":")[2].strip("/")):
                wait_until(lambda: status("alone")["keyset_version"] == 2, what="the keyset on the field server")
            # With Device Administrator: a sync brings them.
            admin("sync", expect=None)  # one of the two is off
            assert status("helped")["keyset_version"] == 2

            new_root = tmp_path / "new-root.pem"
            handed = run(
                *("activation", "keys", "hand-over", "--root", root, "--new-root", new_root, "--data", data),
            )
            assert handed["root_fingerprint"] != made["root_fingerprint"]
            run("activation", "keys", "rotate", "--root", new_root, "--data", data)
            run("activation", "keys", "rotate", "--root", root, "--data", data, expect=1)
            newest = (data / "keyset.tally").read_text().splitlines()[-1]
            wait_until(lambda: fetch_keys(url) == newest, what="the next root in service")
            with first_run(alone["url"].rpartition(":")[2].strip("/")):
                admin("sync")
                for name in ("alone", "helped"):
                    admin("activate", name, "--line", f"{line}=2")
                    shown = status(name)
                    assert (shown["keyset_version"], shown["root_fingerprint"]) == (4, handed["root_fingerprint"])
    # And by a file: the reply file's first line is the keyset.
    late = run(
        "fieldserver",
        "init",
        "--data",
        tmp_path / "late",
        "--kind",
        "AS-P",
        "--name",
        "late",
        "--host-id",
        "l",
        "--trust-first",
    )
    assert late
    old = tmp_path / "old-keys.tally"
    old.write_text(before + "\n")
    run("fieldserver", "deliver", old, "--data", tmp_path / "late")
    assert status("late")["root_fingerprint"] == made["root_fingerprint"]
    run("fieldserver", "request", "refresh", "--data", tmp_path / "late")
    request, reply = tmp_path / "late.tally", tmp_path / "late-reply.tally"
    run("fieldserver", "outbox", "-o", request, "--data", tmp_path / "late")
    run("activation", "message", request, "-o", reply, "--data", data)
    run("fieldserver", "deliver", reply, "--data", tmp_path / "late", expect=None)
    assert status("late")["root_fingerprint"] == handed["root_fingerprint"]


def test_a_locked_signing_key_serves_with_its_passphrase_and_not_without(tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    env = {"TALLYSTICK_KEYS_PASSPHRASE_FILE": str(secret)}
    data, _, _ = make_activation(tmp_path, env=env)
    refused = run("activation", "keys", "list", "--data", data, expect=1)
    assert refused["code"] == "passphrase-wrong"
    assert run("activation", "keys", "list", "--data", data, env=env)["version"] == 1
    with serving("activation", "serve", "--data", data, "--port", "0", env=env) as (told, _):
        assert fetch_keys(told["url"])


MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


@pytest.mark.softhsm
def test_a_hardware_module_takes_over_with_a_rotation_and_signs(tmp_path):
    assert importlib.util.find_spec("pkcs11"), "the extra hardware is missing: make .venv/.dev"
    module = next((path for path in MODULES if Path(path).exists()), None)
    assert module, "SoftHSM2 is missing: tools/install-system-packages.sh"
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    data, _, _ = make_activation(tmp_path)
    env = {
        "SOFTHSM2_CONF": str(configuration),
        "TALLYSTICK_KEYS_PKCS11_MODULE": module,
        "TALLYSTICK_KEYS_PKCS11_TOKEN": "tally",
        "TALLYSTICK_KEYS_PKCS11_PIN": "567890",
    }
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "tally", "--so-pin", "123456", "--pin", "567890"],
        check=True,
        capture_output=True,
        env=os.environ | env,
    )
    with serving("activation", "serve", "--data", data, "--port", "0", env=env) as (told, _):
        before = fetch_keys(told["url"])
        rotated = run("activation", "keys", "rotate", "--data", data, env=env)
        assert [key["place"] for key in rotated["keys"]] == [None, "token"]
        assert not (data / "keys" / "signing.pem").exists()
        wait_until(lambda: fetch_keys(told["url"]) != before, what="the token's key in service")
        init = run(
            "fieldserver",
            "init",
            "--data",
            tmp_path / "f",
            "--kind",
            "AS-P",
            "--name",
            "f",
            "--host-id",
            "f1",
            "--trust-first",
        )
        assert init
        keys = tmp_path / "keys.tally"
        keys.write_text(fetch_keys(told["url"]) + "\n")
        run("fieldserver", "deliver", keys, "--data", tmp_path / "f")
        run("fieldserver", "request", "refresh", "--data", tmp_path / "f")
        run("fieldserver", "outbox", "-o", tmp_path / "m.tally", "--data", tmp_path / "f")
        run("activation", "message", tmp_path / "m.tally", "-o", tmp_path / "r.tally", "--data", data, env=env)
        delivered = run("fieldserver", "deliver", tmp_path / "r.tally", "--data", tmp_path / "f")
        assert "signature-wrong" not in str(delivered)
        assert "not-enrolled" in str(delivered)  # a signed refusal: the token's signature was believed
    again = run("activation", "keys", "rotate", "--data", data, env=env)
    assert [key["place"] for key in again["keys"]] == [None, None, "token"]
    wrong = run("activation", "keys", "list", "--data", data, env=env | {"TALLYSTICK_KEYS_PKCS11_PIN": "1"}, expect=1)
    assert wrong["code"] == "keys-unusable"
