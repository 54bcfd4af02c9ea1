"""What every page needs: who asks, what was sent, the memory, and how a page is made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from jinja2 import Environment
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tallystick.administrator.app import Administrator, administrator_on
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

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.opened)

    def opened(self) -> AbstractContextManager[Administrator]:
        """One run."""
        return administrator_on(self.database, self.sealer, forced=self.forced)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """One request, with its form read."""

    context: WebContext
    request: Request
    administrator: Administrator
    csrf: str
    form: FormData

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
            jobs=self.context.jobs,
            kinds_of_operation=KINDS,
            **values,
        )
        return HTMLResponse(text, status_code=status, headers=dict(PAGE_HEADERS))

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
