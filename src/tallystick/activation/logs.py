"""Logs that a program can read: one JSON object a line, with the id of the request that it belongs to.

What is told never holds activation secrets, tokens, bodies or paths: a path may hold an invitation or an entitlement ID,
so that a request is told by its route. The id comes with the request (``X-Request-Id``) or is
made; it goes back with the answer, so that a person can find the lines about one answer.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import traceback
from contextvars import ContextVar
from typing import Any, Final, TextIO

from tallystick.activation.settings import LogSettings
from tallystick.connections.logs import PlainFormatter, plain_line

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
_OURS: Final = frozenset({"client", "method", "route", "status", "seconds", "bytes"})


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        found: dict[str, Any] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = getattr(record, "request_id", None) or REQUEST_ID.get()
        if request_id is not None:
            found["request_id"] = request_id
        found |= {name: getattr(record, name) for name in _OURS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            found["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(found, default=str)  # ASCII only: no terminal is moved by it


class TextFormatter(PlainFormatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        request_id = getattr(record, "request_id", None) or REQUEST_ID.get()
        text = super().format(record)
        return text if request_id is None else f"{text} [request {plain_line(request_id)}]"


def set_up(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send every log of this process to standard error, as the settings say."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # what strangers send to a port is no news
