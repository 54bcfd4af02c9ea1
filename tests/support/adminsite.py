"""A site for Device Administrator's pages: a crowd of field servers, an activation server, the pages, all real processes."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from typer.testing import CliRunner

from tallystick import cli

COMMAND = [sys.executable, "-m", "tallystick"]
EXAMPLES = Path(__file__).parents[2] / "examples"


class Site:
    def __init__(self, directory, count, stack, *, delay_seconds=0.0):
        self.directory, self.stack = directory, stack
        self.home = directory / "home"
        self.sticks = directory / "STICK"
        self.sticks.mkdir()
        options = {"count": count, "seed": directory.name, "delay_seconds": delay_seconds}
        self.crowd = self.started(sys.executable, "-m", "tallystick.simulator.crowd", json.dumps(options))
        self.members = json.loads(self.crowd.stdout.readline())

    @property
    def environment(self):
        own = {
            "TALLYSTICK_HOME": str(self.home),
            "TALLYSTICK_STICKS": str(self.sticks),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return {**os.environ, **own}

    def started(self, *words):
        process = subprocess.Popen(
            list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.environment
        )
        self.stack.callback(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()

    def run(self, *words, expect=0):
        done = subprocess.run(
            [*COMMAND, *map(str, words)], capture_output=True, text=True, env=self.environment, check=False
        )
        assert done.returncode in (expect if isinstance(expect, tuple) else (expect,)), (
            words,
            done.returncode,
            done.stdout,
            done.stderr,
        )
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def office(self, *words):
        """A command of the activation server, in this process: what is looked at is Device Administrator.

        In a thread of its own: the caller's may have an event loop, as a browser's driver has.
        """
        asked = {"args": ["activation", *map(str, words)], "env": self.environment}
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(CliRunner().invoke, cli.app, **asked).result()
        assert done.exit_code == 0, (words, done.stdout, done.stderr, done.exception)
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def admin(self, *words, expect=0):
        return self.run("admin", *words, expect=expect)

    # The activation server

    def sell(self, *products):
        """An activation server that nobody reaches yet, and an entitlement; its certificate file."""
        data = self.activation
        if not data.exists():
            self.office("init", "--data", data, "--issuer", "Example Controls")
            self.office("catalog", "load", EXAMPLES / "catalog.yaml", "--data", data)
        words = [word for product in products for word in ("--product", product)]
        bought = self.office("entitlement", "create", "--data", data, "--account", "acme", *words, "--json")
        certificate = self.directory / f"{bought['entitlement_id'][:8]}.tally"
        self.office("entitlement", "certificate", bought["entitlement_id"], "--data", data, "-o", certificate)
        return bought, certificate

    @property
    def activation(self):
        return self.directory / "activation"

    def serve_activation(self):
        process = self.started(*COMMAND, "activation", "serve", "--data", self.activation, "--port", 0, "--json")
        told = json.loads(process.stdout.readline())
        self.setup_code = told.get("setup_code")
        return told["url"]

    def file_of_another_vendor(self):
        """The certificate of something that somebody else sells, with their keys."""
        data, file = self.directory / "other", self.directory / "other.tally"
        if not file.exists():
            self.office("init", "--data", data, "--issuer", "Other Controls")
            self.office("catalog", "load", EXAMPLES / "catalog.yaml", "--data", data)
            words = ("--account", "acme", "--product", "smartdriver=9", "--json")
            bought = self.office("entitlement", "create", "--data", data, *words)
            self.office("entitlement", "certificate", bought["entitlement_id"], "--data", data, "-o", file)
        return file

    def upload(self, file, reply):
        self.office("message", file, "-o", reply, "--data", self.activation)

    def lines(self):
        rows = self.office("lines", "--data", self.activation, "--json")
        return {row["product"]: row for row in rows}

    # Field servers

    def delay(self, seconds):
        """From now on, each answer of each of them takes so long."""
        httpx2.get(f"{self.members['addresses'][0]}/crowd?{seconds}", verify=False, trust_env=False)

    def csv(self, sites=("North", "South"), path=None):
        path = path or self.directory / "site.csv"
        rows = ["name,address,password,site"]
        for number, (name, address) in enumerate(zip(self.members["names"], self.members["addresses"], strict=True)):
            rows.append(f"{name},{address},{self.members['password']},{sites[number % len(sites)]}")
        path.write_text("\n".join(rows), "utf-8")
        return path

    # The pages

    def web(self, *words):
        """The pages; the link that opens them."""
        self.pages = self.started(*COMMAND, "admin", "web", "--no-open", "--json", *words)
        return json.loads(self.pages.stdout.readline())["url"]


@contextlib.contextmanager
def site_at(directory, count, *, delay_seconds=0.0):
    with contextlib.ExitStack() as stack:
        yield Site(directory, count, stack, delay_seconds=delay_seconds)
    shutil.rmtree(directory / "home", ignore_errors=True)
