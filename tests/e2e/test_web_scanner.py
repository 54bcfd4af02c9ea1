"""A web scanner, wapiti of Debian, as a signed-in vendor administrator: it crawls every page, fills in every form.

What stays out, and why: ``http_headers`` wants X-XSS-Protection, which browsers have dropped, and HSTS over plain HTTP,
where it means nothing (``tests/integration/portal`` checks our headers); ``cookieflags`` sees the cookie file that we
hand to it, not our cookie; ``ssrf`` asks a server of its makers. Signing out is answered by a stub here, or the scan
would be over with the first form.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.chromium import served
from support.site import PASSWORD, Site
from tallystick.activation.services import sign_in

pytestmark = pytest.mark.wapiti
MODULES = "blindsql,sql,xss,permanentxss,exec,file,redirect,crlf,csrf,csp,methods,htaccess,backup"
STUB = "/sign-out"
REPORT = Path(__file__).parents[2] / "build" / "wapiti.json"
# wapiti sends the text fields of a multipart form as files, so that it is refused with any token, which wapiti takes for
# "with none"; tests/integration/portal/test_bad_input.py sends it as a browser does.
ITS_FAULT = {("Cross Site Request Forgery", "POST", path) for path in ("/deliver", "/deliver/codes")}


def test_a_web_scanner_finds_nothing(tmp_path):
    wapiti = shutil.which("wapiti")
    assert wapiti, "wapiti is missing: tools/install-system-packages.sh installs it"
    site = Site(tmp_path)
    site.person("ana@example.com")
    bought = site.sell("Harbour", ("smartdriver", 12), ("mqtt", 2))
    site.activated(site.device("roof"), (bought.lines[0], 3))
    secret = sign_in.sign_in(
        site.office, email="ana@example.com", password=PASSWORD, origin=sign_in.Origin(address="scanner")
    ).secret

    async def web(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == STUB:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await site.web(scope, receive, send)

    cookie = {"value": secret, "version": 0, "port": None, "secure": False, "expires": None, "discard": True}
    cookie |= {"path": "/", "comment": None, "comment_url": None, "rfc2109": False}
    cookies, report = tmp_path / "cookies.json", REPORT
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    cookies.write_text(json.dumps({"127.0.0.1": {"/": {"__Host-tallystick": cookie}}}))
    with served(web) as url:
        words = [wapiti, "-u", f"{url}/", "-c", str(cookies), "-f", "json", "-o", str(report), "-m", MODULES]
        words += ["--scope", "domain", "-d", "4", "--max-links-per-page", "30", "--max-scan-time", "10", "-t", "10"]
        words += ["--flush-session", "--no-bugreport"]
        done = subprocess.run(
            words,
            env={**os.environ, "HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
    site.close()
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(report.read_text("utf-8"))
    findings = [
        (kind, finding["method"], finding["path"], finding["info"])
        for group in ("vulnerabilities", "anomalies")
        for kind, listed in found[group].items()
        for finding in listed
        if finding["path"] != STUB and (kind, finding["method"], finding["path"]) not in ITS_FAULT
    ]
    summary = f"{found['infos']['version']}, {MODULES}: {len(findings)} findings; {report}"
    report.with_suffix(".txt").write_text(f"{summary}\n", "utf-8")  # make ci shows it
    assert "Launching module permanentxss" in done.stdout  # it went through
    assert findings == []
