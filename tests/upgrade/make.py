"""Make what the first release left on disk, by running that release's own programs. By hand, and once:

    git worktree add /tmp/first 3e45348
    .venv/bin/python tests/upgrade/make.py /tmp/first

It writes ``tests/upgrade/release_3e45348``: the data directory of an activation server (its SQLite file with it), the
same database on PostgreSQL as ``pg_dump`` has it, the directories of field servers, the home of a Device Administrator,
files under way, and ``told.json``: what that release said about all of it. Nothing here knows how any of it looks
inside. The packages are those of this checkout; the code is that release's.

The story: see ``main``. Keys and passwords in it are of this story only.
"""

from __future__ import annotations

import atexit
import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pyotp

HERE = Path(__file__).parent / "release_3e45348"
sys.path.insert(0, str(Path(__file__).parents[1]))

from support.browser import Reader  # noqa: E402 - found by the line above
from support.postgres import Cluster, program  # noqa: E402 - as above

CHECKOUT = Path(sys.argv[1]).resolve()
PASSWORD = "four quiet words apart"
SETTINGS = """
[log]
format = "json"
level = "info"
requests = true

[operations]
token = "the-operations-token-of-this-story"

[events]
kept_days = 400

[webhooks]
allow_private = ["127.0.0.1", "10.1.0.0/16"]
timeout_seconds = 2
give_up_hours = 24

[mail]
port = 2525
security = "tls"
returns_days = 3
expiry_days = 21
hours = 48
"""


# The command line of the release, one command after the other in one process: there are more than a hundred.
COMMANDS = """
import json, sys
from typer.testing import CliRunner
from tallystick.cli import app
for line in sys.stdin:
    done = CliRunner().invoke(app, json.loads(line), prog_name="tallystick")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""


class Release:
    """The commands and services of the release, in one directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "activation"
        self.passwords: dict[str, str] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")}
        self.environment = kept | {
            "PYTHONPATH": str(CHECKOUT / "src"),
            "TALLYSTICK_HOME": str(home / "laptop"),
            "TALLYSTICK_STICKS": str(home / "sticks"),
        }
        self.commands = subprocess.Popen(
            [sys.executable, "-c", COMMANDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=home,
        )
        assert self.commands.stdin is not None
        assert self.commands.stdout is not None
        self._say, self._hear = self.commands.stdin, self.commands.stdout

    def close(self) -> None:
        self._say.close()
        self.commands.wait(30)
        self._hear.close()

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "tallystick", *map(str, words)]

    def run(self, *words: object, expect: tuple[int, ...] = (0,), as_json: bool = True) -> Any:
        """A command; what it printed as JSON."""
        said = [*map(str, words), *(["--json"] if as_json else [])]
        self._say.write(json.dumps(said) + "\n")
        self._say.flush()
        code, out, errors = json.loads(self._hear.readline())
        if code not in expect:
            raise SystemExit(f"{words}: {code}\n{out}\n{errors}")
        return json.loads(out) if as_json and out.strip() else None

    def activation(self, *words: object, **options: Any) -> Any:
        return self.run("activation", *words, "--data", self.data, **options)

    @contextmanager
    def serving(self, *words: object) -> Any:
        process = subprocess.Popen(
            self.command(*words, "--json"), stdout=subprocess.PIPE, text=True, env=self.environment, cwd=self.home
        )
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()

    # Field servers, by files

    def vault(self, name: str) -> Path:
        return self.home / "field-servers" / name

    def field_server(self, name: str) -> str:
        """A new one; its device id."""
        self.vault(name).parent.mkdir(exist_ok=True)
        words = ("--kind", "AS-P", "--name", name, "--host-id", f"host-of-{name}", "--keys", self.home / "keys.tally")
        made = self.run("fieldserver", "init", "--data", self.vault(name), *words)
        self.passwords[name] = made["password_file"]
        return str(made["device_id"])

    def ask(self, name: str, *words: object) -> None:
        self.run("fieldserver", "request", *words, "--data", self.vault(name))

    def outbox(self, name: str) -> Path:
        file = self.home / f"{name}-says.tally"
        self.run("fieldserver", "outbox", "--data", self.vault(name), "-o", file)
        return file

    def answer(self, name: str, file: Path) -> Path:
        reply = self.home / f"{name}-hears.tally"
        self.activation("message", file, "-o", reply, expect=(0, 1))
        return reply

    def deliver(self, name: str, file: Path) -> None:
        self.run("fieldserver", "deliver", file, "--data", self.vault(name), expect=(0, 1))

    def carry(self, name: str) -> None:
        """There and back, until nothing waits."""
        for _ in range(4):
            said = self.outbox(name)
            if said.stat().st_size == 0:
                return
            self.deliver(name, self.answer(name, said))
        raise SystemExit(f"{name} has still something to say")


class Client:
    """Enough of an HTTP client for ``Reader``: it sends cookies back over plain loopback, and follows."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, trust_env=False, headers={"Origin": url.rstrip("/")})
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> Any:
        return self._follow(self._client.get(path, headers=self._headers()))

    def post(self, path: str, data: dict[str, str]) -> Any:
        return self._follow(self._client.post(path, data=data, headers=self._headers()))

    def _headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}

    def _follow(self, answer: Any) -> Any:
        for header in answer.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self._cookies[name] = value
        if answer.is_redirect:
            return self.get(answer.headers["location"])
        if answer.status_code != 200:
            raise SystemExit(f"{answer.status_code} {answer.text}")
        return answer


def main() -> None:
    """The story of one vendor and two customers, up to the evening before the upgrade."""
    with tempfile.TemporaryDirectory(prefix="tallystick-first-") as text:
        release = Release(Path(text))
        atexit.register(release.close)
        told: dict[str, Any] = {"password": PASSWORD, "devices": {}, "tokens": {}}
        _set_up(release, told)
        _people(release, told)
        _sell_and_activate(release, told)
        _restore(release)
        _trouble(release, told)
        _laptop(release, told)
        _under_way(release, told)
        told["at"] = int(time.time())
        _tell(release, told)
        _keep(release, told)


def _set_up(release: Release, told: dict[str, Any]) -> None:
    told["init"] = release.activation("init", "--issuer", "licences.example.com")
    release.activation("catalog", "load", CHECKOUT / "examples" / "catalog.yaml")
    settings = release.data / "settings.toml"
    settings.write_text(settings.read_text("utf-8") + SETTINGS, "utf-8")
    told["settings"] = release.activation("config", "show")
    release.activation("account", "create", "Harbour")
    release.activation("account", "create", "Quay")
    with release.serving("activation", "serve", "--data", release.data, "--port", 0) as served:
        answer = httpx2.get(f"{served['url']}/v1/keys", trust_env=False)
        (release.home / "keys.tally").write_bytes(answer.content)


def _people(release: Release, told: dict[str, Any]) -> None:
    """Ada has a second factor, Ben has none, Cy was only invited, Dee does not work here any more."""
    invited = {}
    for name, role, account in (
        ("ada", "vendor-administrator", None),
        ("ben", "customer-administrator", "Harbour"),
        ("cy", "customer-technician", "Harbour"),
        ("dee", "vendor-support", None),
    ):
        words = ["--name", name.title(), "--role", role, *(["--account", account] if account else [])]
        invited[name] = release.activation("person", "invite", f"{name}@example.com", *words)
    told["invitation_of_cy"] = invited["cy"]["invitation"]
    with release.serving("activation", "serve", "--data", release.data, "--port", 0) as served:
        for name in ("ada", "ben", "dee"):
            reader = Reader(Client(served["url"]))
            reader.send(f"/invitation/{invited[name]['invitation']}", password=PASSWORD)
            if name == "ada":
                form = reader.form("/me", do="authenticator")
                told["totp_secret"] = form.fields["secret"]
                code = pyotp.TOTP(form.fields["secret"]).now()
                reader.client.post("/me", data={**form.fields, "code": code})
    release.activation("person", "change", "dee@example.com", "--deactivate")
    for name, kept in {
        "root": ("--role", "vendor-administrator"),
        "reader": ("--role", "customer-administrator", "--account", "Harbour", "--read-only"),
        "gone": ("--role", "vendor-support"),
    }.items():
        told["tokens"][name] = release.activation(
            "token", "create", f"{name} of the first release", *kept, "--days", 366
        )
    release.activation("token", "revoke", told["tokens"]["gone"]["token_id"])
    told["webhooks"] = [
        release.activation("webhooks", "add", "https://127.0.0.1:9/vendor"),
        release.activation("webhooks", "add", "https://127.0.0.1:9/harbour", "--account", "Harbour"),
    ]
    release.activation("webhooks", "change", told["webhooks"][1]["webhook_id"], "--pause")


def _sell_and_activate(release: Release, told: dict[str, Any]) -> None:
    sold = release.activation(
        "entitlement", "create", "--account", "Harbour", "--product", "smartdriver=20", "--product", "mqtt-client=5",
        "--key", "order-4711",
    )  # fmt: skip
    other = release.activation(
        "entitlement", "create", "--account", "Quay", "--product", "smartdriver=3", "--expires", "2035-01-01"
    )
    told["sold"], told["sold_to_quay"] = sold, other
    release.activation("line", "change", sold["lines"][0]["line"], "--quantity", 18)
    release.activation("line", "change", other["lines"][0]["line"], "--suspend")
    for name in ("roof", "cellar", "mill", "barn", "shed", "pier", "attic"):
        told["devices"][name] = release.field_server(name)
        release.ask(name, "activate", f"{sold['lines'][0]['activation_id']}=2")
        release.carry(name)
    told["devices"]["loft"] = release.field_server("loft")
    release.activation("enrol", told["devices"]["loft"], "--account", "Harbour")
    release.ask("pier", "relinquish")
    release.carry("pier")
    release.activation("retire", "pier")


def _restore(release: Release) -> None:
    """The data is from a backup. Everybody but the attic is heard from; one line may grow again."""
    release.activation("backup", "-o", release.home / "backup.tar.gz")
    release.activation("restore")
    for name in ("roof", "cellar", "mill", "barn", "shed"):
        release.ask(name, "refresh")
        release.carry(name)
        release.ask(name, "refresh")
        release.carry(name)
    lines = [row["line"] for row in release.activation("lines") if row["product"] == "smartdriver"]
    release.activation("lift-freeze", *lines)


def _trouble(release: Release, told: dict[str, Any]) -> None:
    """Two copies of the shed; the barn burned down."""
    shutil.copytree(release.vault("shed"), release.vault("shed-twin"))
    for name in ("shed", "shed-twin"):
        release.ask(name, "refresh")
        release.carry(name)
    told["lost"] = release.activation("declare-lost", "barn", "--reason", "it burned down")


def _laptop(release: Release, told: dict[str, Any]) -> None:
    """Device Administrator adds the dock, activates, returns a part of it, and keeps the receipt."""
    told["devices"]["dock"] = release.field_server("dock")
    line, entitlement = told["sold"]["lines"][0]["line"], told["sold"]["entitlement_id"]
    with (
        release.serving("activation", "serve", "--data", release.data, "--port", 0) as served,
        release.serving("fieldserver", "run", "--data", release.vault("dock"), "--port", 0) as dock,
    ):
        told["laptop_activation"] = served["url"]
        release.run("admin", "entitlement", "add", entitlement, "--activation", served["url"])
        release.run("admin", "add", dock["url"], "--password-file", release.passwords["dock"], "--site", "North")
        release.run("admin", "activate", "dock", "--line", f"{line}=3")
        release.run("admin", "return", "dock", "--line", f"{line}=1")
        release.run("admin", "activate", "dock", "--line", f"{line}=2", "--route", "offline", expect=(0, 1, 2, 3, 4))
        told["laptop"] = {"servers": release.run("admin", "servers"), "receipts": release.run("admin", "receipts")}
        release.run("admin", "export", release.home / "dock-says.tally")
        release.run("admin", "receipts", "--save", release.home / "receipts.tally", as_json=False)
        time.sleep(3)  # events get their places, webhooks are tried


def _under_way(release: Release, told: dict[str, Any]) -> None:
    """A return that the cellar asked for, granted, in a file that nobody delivered; one that was started for the mill.

    The roof wrote something that nobody has carried.
    """
    release.ask("cellar", "return", "--all")
    release.answer("cellar", release.outbox("cellar"))
    told["started"] = release.activation("return", "mill", "-o", release.home / "mill-hears.tally")
    release.ask("roof", "refresh")
    release.outbox("roof")


def _tell(release: Release, told: dict[str, Any]) -> None:
    """What the release says about all of it, by its own commands."""
    told["verify"] = release.activation("verify")
    for name in ("lines", "field-servers", "incidents", "returns", "ledger", "audit", "events"):
        told[name] = release.activation(name)
    for noun in ("entitlement", "person", "token", "account", "webhooks"):
        told[f"{noun} list"] = release.activation(noun, "list")
    told["keys"] = release.activation("keys", "list")
    said = (release.home / "cellar-says.tally").read_text("utf-8").splitlines()
    told["answered"] = {"file": said, "replies": (release.home / "cellar-hears.tally").read_text("utf-8").splitlines()}
    told["vaults"] = {
        name: release.run("fieldserver", "status", "--data", release.vault(name)) for name in told["devices"]
    }


def _keep(release: Release, told: dict[str, Any]) -> None:
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    cluster = Cluster()
    try:
        url = cluster.new_database()
        release.run("activation", "copy-database", "--data", release.data, "--to", url)
        dump = subprocess.run(
            [program("pg_dump"), "--no-owner", "--no-privileges", "-h", str(cluster.home), "-U", "tally", "tally1"],
            capture_output=True,
            check=True,
        ).stdout
    finally:
        cluster.remove()
    (HERE / "postgresql.sql.gz").write_bytes(gzip.compress(dump, mtime=0))
    (HERE / "told.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
    with tarfile.open(HERE / "home.tar.xz", "w:xz") as tar:
        for name in ("activation", "field-servers", "laptop", "keys.tally", "receipts.tally", "backup.tar.gz"):
            tar.add(release.home / name, name)
        for file in sorted(release.home.glob("*-says.tally")) + sorted(release.home.glob("*-hears.tally")):
            tar.add(file, file.name)
    for file in sorted(HERE.iterdir()):
        sys.stdout.write(f"{file.name}: {file.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
