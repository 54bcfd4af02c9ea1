"""What every page needs: who asks, what was sent, the memory, and how a page is made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from jinja2 import Environment
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tallystick.administrator.app import Administrator, SystemClock, administrator_on
from tallystick.administrator.core.next_steps import NextStep, Phase
from tallystick.administrator.core.reach import Reach, Snapshot
from tallystick.administrator.memory.database import Database
from tallystick.administrator.memory.inventory import FieldServerRecord
from tallystick.administrator.memory.passwords import Sealer
from tallystick.administrator.ports import PortError, RouteKind, next_step_of
from tallystick.administrator.web.jobs import Jobs
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.pages import PAGE_HEADERS
from tallystick.protocol.problems import BY_CODE
from tallystick.sentences import _

KINDS: Final = {
    "activate": _("Activate what is planned"),
    "return": _("Return licenses"),
    "one-carry": _("Return in one carry"),
    "out-of-service": _("Take out of service for good"),
    "refresh": _("Refresh"),
    "sync": _("Carry what waits"),
}
KEPT_MAX: Final = 100
SENT_MAX: Final = 8  # versions of which it is known what a browser has
LOOK_EVERY_SECONDS: Final = 60


class PageMemory:
    """Things of a page that the next request asks for, by a number; the oldest are forgotten."""

    def __init__(self) -> None:
        self._things: dict[int, Any] = {}
        self._numbers = itertools.count(1)

    def keep(self, thing: object) -> int:
        """Its number."""
        number = next(self._numbers)
        self._things[number] = thing
        while len(self._things) > KEPT_MAX:
            self._things.pop(next(iter(self._things)))
        return number

    def find(self, kind: type, number: int) -> Any:
        """The thing. Raises ``Error`` (``not-found``)."""
        thing = self._things.get(number)
        if not isinstance(thing, kind):
            raise Error(
                "not-found", expected=_("what this page showed"), seen=_("nothing any more; begin again from the list")
            )
        return thing

    def forget(self, number: int) -> None:
        """Let go of it."""
        self._things.pop(number, None)


@dataclass(slots=True, kw_only=True)
class WebContext:
    """The pages' own state, for as long as the program runs."""

    database: Database
    sealer: Sealer
    environment: Environment
    jobs: Jobs = field(init=False)
    kept: PageMemory = field(default_factory=PageMemory)
    forced: RouteKind | None = None
    look_every: int = LOOK_EVERY_SECONDS  # while somebody has a page open; 0: only when asked
    sent: dict[str, Mapping[str, int]] = field(default_factory=dict)  # by version: the rows of a list, as they looked

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.opened, Reach(SystemClock().now))

    def opened(self) -> AbstractContextManager[Administrator]:
        """One run."""
        return administrator_on(self.database, self.sealer, forced=self.forced, reach=self.jobs.reach)

    def version(self) -> str:
        """Another one as soon as anything that a page shows may be another."""
        jobs, running = self.jobs, self.jobs.running()
        doing = "" if running is None else running.number
        return f"{self.database.version()}-{jobs.reach.version}-{jobs.is_looking:d}-{doing}-{self.forced or ''}"


class AtField(Exception):
    """What is wrong with one field of a form."""

    def __init__(self, error: Error, name: str) -> None:
        super().__init__(name)
        self.error = error
        self.name = name


@contextmanager
def at_field(name: str) -> Iterator[None]:
    """What goes wrong inside is about this field: the page says so there, and keeps what was typed."""
    try:
        yield
    except Error as error:
        raise AtField(error, name) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a form was not taken. ``field`` is empty where it is about the whole."""

    problem: Mapping[str, str]
    status: int
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a page is made from: all of it of one moment."""

    records: tuple[FieldServerRecord, ...]
    steps: Mapping[DeviceId, NextStep]
    seen: Snapshot | None

    @property
    def proving(self) -> set[DeviceId]:
        """Who gave up rights that are not proven at the activation server yet."""
        return {device_id for device_id, step in self.steps.items() if step.phase is Phase.PROVE}


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """One request, with its form read. ``version`` is of before anything was read: no page claims to be newer than it is."""

    context: WebContext
    request: Request
    administrator: Administrator
    csrf: str
    form: FormData
    version: str
    fault: Fault | None = None  # of a form that is shown again, with what was typed

    @property
    def had_version(self) -> str:
        """Which one the browser has, where its page asks again."""
        return self.request.headers.get("tallystick-live", "")

    @cached_property
    def reading(self) -> Reading:
        """Everything about field servers and the route: whoever shows some of it shows this."""
        administrator = self.administrator
        with self.context.database.one_state():
            records = administrator.inventory.field_servers()
            seen = self.context.jobs.reach.snapshot(
                records, administrator.inventory.activation_urls(), forced=self.context.forced
            )
            has_route = None if seen is None else seen.has_route
            steps = administrator.workflows.standings(records, has_route=has_route)
        return Reading(records=tuple(records), steps=steps, seen=seen)

    @property
    def now(self) -> int:
        """Unix seconds."""
        return self.administrator.clock.now()

    def text(self, name: str, length_max: int = 2000) -> str:
        """A field of the form or, with GET, of the address."""
        value = (self.form if self.request.method == "POST" else self.request.query_params).get(name)
        return value.strip()[:length_max] if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    def files(self, name: str) -> list[UploadFile]:
        """Uploaded files."""
        return [one for one in self.form.getlist(name) if isinstance(one, UploadFile) and one.filename]

    def number(self, name: str = "number") -> int:
        """A number in the path."""
        return int(self.request.path_params[name])

    def field_server(self) -> FieldServerRecord:
        """The field server in the path. Raises ``Error`` (``not-found``)."""
        device_id = DeviceId(self.request.path_params["device_id"])
        record = self.administrator.inventory.field_server(device_id)
        if record is None:
            raise Error("not-found", expected=_("a field server in the list"), seen=device_id[:60])
        return record

    def _typed(self, name: str, default: str = "") -> str:
        """What stands in a field: what was typed, where the form is shown again."""
        value = self.form.get(name) if self.fault is not None else None
        return value[:2000] if isinstance(value, str) else default

    def _fault_at(self, name: str) -> str:
        """What is wrong with a field; empty where nothing is."""
        fault = self.fault
        if fault is None or fault.field != name:
            return ""
        return _("Expected {expected}; saw {seen}.", expected=fault.problem["expected"], seen=fault.problem["seen"])

    def show(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page, with what the frame shows."""
        path = self.request.url.path
        counts = {
            "carry": len(self.administrator.mailbag.outbound()) + len(self.administrator.mailbag.inbound()),
            "doing": self.context.jobs.running() is not None,
        }
        text = self.context.environment.get_template(f"own/{template}").render(
            csrf=self.csrf,
            path=path,
            now=self.now,
            counts=counts,
            forced=self.context.forced,
            seen=self.reading.seen,
            version=self.version,
            fault=self.fault,
            typed=self._typed,
            fault_at=self._fault_at,
            watched=f"{path}?{self.request.url.query}" if self.request.method == "GET" else "",
            jobs=self.context.jobs,
            kinds_of_operation=KINDS,
            **values,
        )
        return HTMLResponse(text, status_code=self.fault.status if self.fault else status, headers=dict(PAGE_HEADERS))

    def go(self, path: str) -> Response:
        """Look at another page."""
        return RedirectResponse(path, status_code=303, headers=dict(PAGE_HEADERS))


Handler = Callable[[PageRequest], Response]


def problem_of(error: Error) -> Mapping[str, str]:
    """What the shared macro ``problem`` shows."""
    row = BY_CODE.get(error.code)
    next_step = error.next_step if isinstance(error, PortError) else next_step_of(error.code)
    if error.code == "usage":
        next_step = _("Go back and correct it; nothing was changed.")
    return {
        "title": row.title if row and error.code != "usage" else _("That cannot be done like this"),
        "next_step": next_step,
        "expected": error.said[0],
        "seen": error.said[1],
        "code": error.code,
    }
