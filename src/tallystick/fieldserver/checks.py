"""May this feature run? What a licensed program on the field server asks, in Python.

::

    from tallystick.fieldserver import checks

    licenses = checks.open("/var/lib/tallystick", root="YNIvjrG4wM03Inx8O65S-vJsiLrwYyFwNK6U42qkeXQ")
    if licenses.check("mqtt-client").is_licensed:
        ...

The program names the root of its vendor: a license under any other root is ``not licensed: other issuer``. ``open`` reads
the data directory itself, as the user who owns it; ``asking.connect`` asks the agent over its socket, as any user whom the
socket lets in. Both decide by the same rules (docs/protocol/checks.md).

Guarantees: a check never raises, never writes and never waits for a network; the worst answer is "not licensed, and
why" (protocol, P6). It is answered from memory, in under a microsecond when it is asked again. Signatures are
verified when the vault is loaded, and the vault is loaded again within a second of being written. Expiry is judged at
the highest time seen, so setting the clock back gains nothing, and breaks nothing.

It leaves to others: what to do about the answer. No control logic may depend on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Final

from tallystick.domain.verdict import License, Verdict, decide_verdict, refuse_check
from tallystick.errors import Error
from tallystick.fieldserver import platform
from tallystick.fieldserver.state import State, keyset_beside
from tallystick.fieldserver.vault import Vault
from tallystick.protocol import answers
from tallystick.protocol.problems import problem_for
from tallystick.sentences import _

_LOOK_SECONDS: Final = 1.0
_ANSWERS_MAX: Final = 1024


class Checks:
    """Answers checks. Safe to share among threads.

    ``roots``: the fingerprints of the vendor's roots that the program names. None: what the agent itself shows to
    technicians, under the root that it has pinned, which proves nothing to a program.
    """

    def __init__(
        self,
        *,
        load: Callable[[], State],
        stamp: Callable[[], Hashable],
        wall_clock: Callable[[], float],
        roots: Iterable[str] | None = None,
    ) -> None:
        self._roots = None if roots is None else tuple(roots)
        self._newest = ("", 0, 0)  # of the grants that were believed here: device, epoch, number
        self._load = load
        self._stamp = stamp
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._state: State | None = None
        self._trouble: Error = Error("not-initialised", expected=_("a vault"), seen=_("none"))
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
            why = f"the check itself failed: {type(error).__name__}"
            return refuse_check(str(feature), 1, code="invariant", why=why)

    def held(self) -> tuple[State, int]:
        """What is held, and the highest time seen. Raises ``Error`` where the vault cannot be read."""
        with self._lock:
            now = self._wall_clock()
            if not self._looked_at <= now < self._look_again_at:
                self._look_at(now)
            if self._state is None:
                trouble = self._trouble  # raised as a new one: the same would carry all its tracebacks
                raise Error(trouble.code, expected=trouble.expected, seen=trouble.seen)
            return self._state, int(max(self._highest, self._state.time_seen))

    def look(self) -> None:
        """Look at the vault again with the next check, however short ago the last look was."""
        self._look_again_at = 0.0
        self._is_settled = False

    def _answer(self, feature: str, required: int) -> Verdict:
        if not _is_question(feature, required):
            return answers.refused(str(feature), 1, code="check-wrong", seen=_("another question"))
        if self._roots is not None and (wrong := answers.check_question(self._roots, feature, required)) is not None:
            return wrong
        now = self._wall_clock()
        if not self._looked_at <= now < self._look_again_at:
            self._look_at(now)
        if self._state is None:
            verdict = refuse_check(feature, required, code=self._trouble.code, why=_why(self._trouble))
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
            self._state = self._believed(self._load())
        except Error as error:
            self._state, self._trouble = None, error
        except Exception as error:  # noqa: BLE001 - see check
            self._state = None
            self._trouble = Error("vault-damaged", expected=_("a vault that can be read"), seen=type(error).__name__)
        if before is None or self._state is None or self._state.applied != before.applied:
            # A grant that was taken carries the activation server's time and heals a clock that had jumped ahead.
            self._highest = 0.0

    def _believed(self, state: State) -> State:
        """Rules 9 and 14 for a program; signatures were checked when the vault was read. Raises ``Error``."""
        keyset = keyset_beside(state)
        if self._roots is None or keyset is None:
            return state
        if not keyset.root_fingerprints.intersection(self._roots):
            seen = _("root {thumbprint} of {issuer}", thumbprint=keyset.root_fingerprint, issuer=keyset.issuer)
            raise Error("other-issuer", expected=problem_for("other-issuer").expected, seen=seen)
        if state.applied is not None:
            device, epoch, number = self._newest
            if device == state.device_id and (state.epoch, state.applied.number) < (epoch, number):
                seen = _("grant {number} of epoch {epoch}", number=state.applied.number, epoch=state.epoch)
                raise Error("older-grant", expected=problem_for("older-grant").expected, seen=seen)
            self._newest = (state.device_id, state.epoch, state.applied.number)
        return state


def open(data_dir: str | Path, *, root: str | Iterable[str] = ()) -> Checks:  # noqa: A001 - reads `checks.open(...)`
    """Checks on the data directory of a field server, for a program that names its vendor's root (or a few of them).

    Never raises: what is wrong, a check will say. Without a root, as before there were roots to name, every check is
    ``not licensed`` (``check-wrong``) and says what to do: decision 0041.
    """
    return _open(data_dir, (root,) if isinstance(root, str) else tuple(root))


def of_agent(data_dir: str | Path) -> Checks:
    """What the agent itself shows to technicians: under whatever root it has pinned. Not for programs."""
    return _open(data_dir, None)


def _open(data_dir: str | Path, roots: Iterable[str] | None) -> Checks:
    directory = Path(data_dir)
    disk = platform.FileDisk(directory)
    vaults: dict[bytes, Vault] = {}

    def load() -> State:
        seed = platform.read_seed(directory)
        if seed not in vaults:
            vaults.clear()
            vaults[seed] = Vault(disk, seed)
        return vaults[seed].peek()

    return Checks(load=load, stamp=lambda: platform.stamp_of(directory), wall_clock=platform.WALL_CLOCK, roots=roots)


def _is_question(feature: object, required: object) -> bool:
    return isinstance(feature, str) and isinstance(required, int) and required >= 0


def _expiries(licenses: tuple[License, ...], *, after: float) -> list[float]:
    return [
        license_.expires_at for license_ in licenses if license_.expires_at is not None and license_.expires_at > after
    ]


def _why(error: Error) -> str:
    problem = problem_for(error.code)
    return f"{problem.title} ({error.code}): {error}. {problem.next_step}"
