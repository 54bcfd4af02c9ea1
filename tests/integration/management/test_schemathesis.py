"""schemathesis on the whole API, all checks, no failures: what the OpenAPI document promises is what is answered."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from support.site import Site
from tallystick.activation.core.permissions import Role
from tallystick.activation.services import people

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXAMPLES = 40 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 8


@pytest.fixture
def served(tmp_path):
    site = Site(tmp_path)
    bought = site.sell("Harbour", ("smartdriver", 10), ("mqtt", 2))
    site.activated(site.device("plant"), (bought.lines[0], 3))
    site.person("ana@example.com")
    server = uvicorn.Server(uvicorn.Config(site.web, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield site, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    site.close()


def test_every_answer_is_as_the_document_says(served, tmp_path):
    site, address = served
    made = people.create_token(
        site.office,
        site.root,
        name="schemathesis",
        role=Role.VENDOR_ADMINISTRATOR,
        account=None,
        days=30,
        is_read_only=False,
        devices=(),
        once=None,
    )
    words = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{address}/openapi.json", "-H", f"Authorization: Bearer {made.token}", "--checks", "all"),
        *("--max-examples", str(EXAMPLES), "--seed", "1", "--continue-on-failure", "--request-timeout", "30"),
        *("--exclude-checks", "use_after_free"),  # a revoked token is shown, with the moment of its end
        *("--suppress-health-check", "too_slow"),  # how fast data is made says something about the machine only
    ]
    settings = {
        "SCHEMATHESIS_HOOKS": "support.schemathesis_hooks",
        "SCHEMATHESIS_TOKEN_ID": made.token_id,
        "PYTHONPATH": str(HERE.parent.parent),
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
    }
    done = subprocess.run(words, env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    selected, tested = (re.search(rf"{word}: (\d+)", done.stdout) for word in ("Selected", "Tested"))
    assert selected[1] == tested[1]
    assert int(tested[1]) > 40
