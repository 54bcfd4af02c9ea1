"""What a back office asks for: every field server by the API, page by page."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from typing import Final

from benchmarks.parties import TALLYSTICK, Service, Site, Story, make_site
from benchmarks.rows import Bench, Row

FIELD_SERVERS: Final = 100_000
LINES: Final = 500
SECONDS_MAX: Final = 30.0
_PAGE: Final = 200


def o1_walk(bench: Bench) -> list[Row]:
    """All field servers of an activation server, each known by its own message, through the API."""
    found = []
    for engine in ("sqlite", "postgresql"):
        database = bench.cluster.new_database() if engine == "postgresql" else None
        site = make_site(bench.home / f"walk-{engine}", database=database, lines=LINES)
        count = bench.many(FIELD_SERVERS)
        Story(site, count, salt="walk", told=1)
        with site.served(1) as service:
            started = time.perf_counter()
            walked = _walk(service, _token(site))
            seconds = time.perf_counter() - started
        if walked != count:
            raise SystemExit(f"{walked} field servers of {count} were listed: nothing was measured")
        what = f"walking {count:,} field servers by API, {_PAGE} a page, {engine}"
        found.append(Row(name="O1", what=what, figure=seconds, limit=SECONDS_MAX, unit="s", at_least=False))
    return found


def _token(site: Site) -> str:
    words = ["activation", "token", "create", "walk", "--role", "vendor-support", "--days", "1", "--json"]
    words += ["--data", str(site.data)] + (["--database", site.database] if site.database else [])
    done = subprocess.run([*TALLYSTICK, *words], stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(done.stdout)["token"])


def _walk(service: Service, token: str) -> int:
    seen: set[str] = set()
    after = ""
    while True:
        url = f"{service.url}/v1/field-servers?limit={_PAGE}" + (f"&after={after}" if after else "")
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:
            page = json.load(answer)
        seen.update(item["device_id"] for item in page["items"] if item["licenses"])
        after = page["next"]
        if after is None:
            return len(seen)
