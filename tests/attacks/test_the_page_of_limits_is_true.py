"""The page about limits says what the code does."""

from pathlib import Path

from tallystick.activation.http import bodies, strangers
from tallystick.activation.http.protocol_api import BODY_IDLE_SECONDS
from tallystick.activation.outbound import shares, webhooks
from tallystick.activation.server import service
from tallystick.administrator.web import app
from tallystick.connections import listening
from tallystick.fieldserver import api
from tallystick.fieldserver import service as field_service
from tallystick.protocol import dry_run

PAGE = " ".join((Path(__file__).parents[2] / "docs/operations/limits.md").read_text("utf-8").split())


def test_every_number_of_the_page_is_that_of_the_code():
    head = listening.HEAD_BYTES_MAX
    for sentence in (
        f"| connections | {service.CONNECTIONS_MAX}, or what the limit of open files leaves | {field_service.CONNECTIONS_MAX} |",
        f"trusted proxies: no limit | {field_service.ADDRESS_MAX} | {app.CONNECTIONS_MAX} |",
        f"bytes | {head} | {head} | {head} |",
        f"seconds | {listening.HEAD_SECONDS:g} | {listening.HEAD_SECONDS:g} | {listening.HEAD_SECONDS:g} |",
        f"{BODY_IDLE_SECONDS:g} seconds without a byte",
        f"{bodies.BODY_BYTES_MAX} bytes within {bodies.WHOLE_SECONDS:g} seconds",
        f"A catalog may have {bodies.LARGE_BYTES_MAX['/v1/catalog']} bytes and a dry run {dry_run.BODY_BYTES_MAX}",
        f"{bodies.STREAMS_AT_ONCE} may wait with more than {bodies.BODY_BYTES_MAX} bytes",
        f"{bodies.LARGE_AT_ONCE} wait for their rest",
        f"within {api.REQUEST_SECONDS:g} seconds",
        f"may say {strangers.ADDRESS_AT_ONCE} such messages at once and {strangers.ADDRESS_PER_SECOND:g} a second",
        f"a key {strangers.KEY_AT_ONCE} at once and one in {1 / strangers.KEY_PER_SECOND:g} seconds",
        f"at most {strangers.OPEN_MAX} counted lines are undecided",
        f"when {strangers.WAITING_MAX} of them wait for the end of their files",
        f"{shares.SLOTS} deliveries under way in a process, {shares.PROMPT_KEPT} of them kept",
        f"at most {shares.OWNER_MAX} slow ones",
        f"{webhooks.QUEUE_MAX} deliveries wait",
    ):
        assert sentence in PAGE
