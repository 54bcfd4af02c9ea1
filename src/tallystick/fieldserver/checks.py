"""May this feature run? What licensed software on the field server asks.

::

    from tallystick.fieldserver import checks

    licenses = checks.open("/var/lib/tallystick")
    if licenses.check("mqtt-client").is_licensed:
        ...

Guarantees: a check never raises, never writes and never waits for a network; the worst answer is "not licensed, and
why" (protocol, P6). It is answered from memory, in under a microsecond when it is asked again. Signatures are
verified when the vault is loaded, and the vault is loaded again within a second of being written. Expiry is judged at
the highest time seen, so setting the clock back gains nothing, and breaks nothing.

It leaves to others: what to do about the answer. No control logic may depend on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final

from tallystick.domain.verdict import License, Standing, Verdict, decide_verdict
from tallystick.errors import Error
from tallystick.fieldserver import platform
from tallystick.fieldserver.state import State
from tallystick.fieldserver.vault import Vault
from tallystick.protocol.problems import problem_for

_LOOK_SECONDS: Final = 1.0
_ANSWERS_MAX: Final = 1024


class Checks:
    """Answers checks. Safe to share among threads."""

    def __init__(
        self,
        *,
        load: Callable[[], State],
        stamp: Callable[[], Hashable],
        wall_clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._stamp = stamp
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._state: State | None = None
        self._trouble: str | None = "the vault was not read yet"
        self._stamped: Hashable = None
        self._is_settled = False
        self._highest = 0.0  # the highest wall clock seen in this process, since the grant in force came
        self._looked_at = 0.0
        self._look_again_at = 0.0
        self._answers: dict[tuple[str, int], Verdict] = {}

    def check(self, feature: str, required: int = 1) -> Verdict:
        """Judge ``required`` units of ``feature``. Never raises."""
        try:
            if self._looked_at <= self._wall_clock() < self._look_again_at:
                return self._answers[feature, required]
        except (KeyError, TypeError):
            pass
        try:
            with self._lock:
                return self._answer(feature, required)
        except Exception as error:  # noqa: BLE001 - a check never raises, whatever is broken below it (P6)
            return _not_licensed(str(feature), 1, f"the check itself failed: {type(error).__name__}")

    def look(self) -> None:
        """Look at the vault again with the next check, however short ago the last look was."""
        self._look_again_at = 0.0
        self._is_settled = False

    def _answer(self, feature: str, required: int) -> Verdict:
        if not _is_question(feature, required):
            return _not_licensed(str(feature), 1, "a check needs a feature's name and a whole number from 0")
        now = self._wall_clock()
        if not self._looked_at <= now < self._look_again_at:
            self._look_at(now)
        if self._state is None:
            verdict = _not_licensed(feature, required, self._trouble or "")
        else:
            moment = int(max(self._highest, self._state.time_seen))
            held = self._state.licenses
            verdict = decide_verdict(feature, required=required, licenses=held, time_seen=moment, now=int(now))
        if len(self._answers) >= _ANSWERS_MAX:
            self._answers.clear()
        self._answers[feature, required] = verdict
        return verdict

    def _look_at(self, now: float) -> None:
        stamp = self._stamp()
        if stamp is None or stamp != self._stamped or not self._is_settled:
            self._reload()
            # A file's time stamp may be coarse and hide a second write, so a change is read once more later.
            self._is_settled = stamp is not None and stamp == self._stamped and now - self._looked_at >= _LOOK_SECONDS
            self._stamped = stamp
        self._highest = max(self._highest, now)
        self._answers.clear()
        self._looked_at = now
        expiries = [] if self._state is None else _expiries(self._state.licenses, after=now)
        self._look_again_at = min([now + _LOOK_SECONDS, *expiries])

    def _reload(self) -> None:
        before = self._state
        try:
            self._state, self._trouble = self._load(), None
        except Error as error:
            problem = problem_for(error.code)
            self._state, self._trouble = None, f"{problem.title} ({error.code}): {error}. {problem.next_step}"
        except Exception as error:  # noqa: BLE001 - see check
            self._state, self._trouble = None, f"the vault could not be read: {type(error).__name__}"
        if before is None or self._state is None or self._state.applied != before.applied:
            # A grant that was taken carries the activation server's time and heals a clock that had jumped ahead.
            self._highest = 0.0


def open(data_dir: str | Path) -> Checks:  # noqa: A001 - reads `checks.open(...)`
    """Checks on the data directory of a field server. Never raises: what is wrong with it, a check will say."""
    directory = Path(data_dir)
    disk = platform.FileDisk(directory)
    vaults: dict[bytes, Vault] = {}

    def load() -> State:
        seed = platform.read_seed(directory)
        if seed not in vaults:
            vaults.clear()
            vaults[seed] = Vault(disk, seed)
        return vaults[seed].peek()

    return Checks(load=load, stamp=lambda: platform.stamp_of(directory), wall_clock=platform.WALL_CLOCK)


def _is_question(feature: object, required: object) -> bool:
    return isinstance(feature, str) and isinstance(required, int) and required >= 0


def _expiries(licenses: tuple[License, ...], *, after: float) -> list[float]:
    return [
        license_.expires_at for license_ in licenses if license_.expires_at is not None and license_.expires_at > after
    ]


def _not_licensed(feature: str, required: int, why: str) -> Verdict:
    return Verdict(
        feature=feature,
        standing=Standing.NOT_LICENSED,
        required=required,
        used=0,
        available=0,
        activated=0,
        why=why,
    )
