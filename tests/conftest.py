"""What every test needs.

Hypothesis: ``dev`` looks at new examples each time, ``ci`` (HYPOTHESIS_PROFILE=ci, or CI set) at the same ones in
every run, so that a build never fails for a reason that the change did not bring.
"""

import collections
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI nothing is skipped: what a test needs is there, or the build says that it is not."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
    return report


class _Durations:
    """How long each test took, kept from run to run for ``make slowest``."""

    FILE = Path(__file__).parents[1] / "build" / "durations.json"

    def __init__(self):
        self.seconds = collections.Counter()

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self):
        self.FILE.parent.mkdir(exist_ok=True)
        kept = json.loads(self.FILE.read_text("utf-8")) if self.FILE.exists() else {}
        rounded = {name: round(seconds, 2) for name, seconds in self.seconds.items()}
        self.FILE.write_text(json.dumps(kept | rounded, indent=0), "utf-8")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # xdist's workers report to the process that has them
        config.pluginmanager.register(_Durations())
