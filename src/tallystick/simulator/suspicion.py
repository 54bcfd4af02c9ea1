"""Who may be accused, and whose rights are not judged: field servers that were rolled back or cloned (truth of the faults).

A disk that is put back, and a copy of it, begin a **history** of their own: one device key has said things in two of them,
and nothing that follows is the activation server's fault. That ends. A field server is judged again as soon as there is
one copy of it that is alive, a message of its present history was decided at the grant that the activation server counts
as proven, and nothing that another history said can still be decided, nor what was answered to it be ahead: the fence is
proven, or the second copy is stopped and all that it said was heard, or overtaken. If a message of another history has an effect after that all the same, the
suspicion is back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

# Refused so, a message of another history changed nothing.
_WITHOUT_EFFECT: Final = frozenset({"superseded", "restored"})


@dataclass(frozen=True, slots=True)
class _Said:
    history: tuple[str, int]
    epoch: int
    sequence: int


class Suspicion:
    """``suspects``: not judged now. ``ever``: those and the ones that were. ``accusable``: within the present commit."""

    def __init__(self) -> None:
        self.suspects: set[str] = set()
        self.ever: set[str] = set()
        self.accusable: set[str] = set()
        self.judged_again = 0
        self._histories: dict[str, int] = {}
        self._said: dict[str, dict[str, _Said]] = {}
        self._seen: dict[str, int] = {}

    def begin_history(self, copy: str, device: str) -> None:
        """What ``copy`` says from now on is another history."""
        self._histories[copy] = self._histories.get(copy, 0) + 1
        self._suspect(device)

    def spoken(self, copy: str, device: str, digest: str, *, epoch: int, sequence: int) -> None:
        """A message left a field server. Said again, it is of the history that said it first."""
        said = _Said((copy, self._histories.get(copy, 0)), epoch, sequence)
        self._said.setdefault(device, {}).setdefault(digest, said)

    def told(self, device: str, seen: int) -> None:
        """A reply was signed that says that so high a sequence was seen. A restore does not take it back."""
        self._seen[device] = max(self._seen.get(device, 0), seen)

    def begin_commit(self) -> None:
        """Accusations of one commit are judged by who was suspected at any moment of it."""
        self.accusable = set(self.suspects)

    def forget(self) -> None:
        """The activation server was put back, and may accuse again of what it knew."""
        self.suspects |= self.ever

    def decided(
        self,
        device: str,
        digest: str,
        *,
        refused: str | None,
        is_reused: bool,
        is_proof: bool,
        living: Collection[str],
        taken: Collection[str],
        heard: tuple[int, int],
    ) -> None:
        """A message was taken. ``is_reused``: its sequence was used before, by another one; ``is_proof``: it stands at the
        proven grant; ``heard``: the epoch and sequence that count.
        """
        if device not in self.ever:
            return
        said = self._said.get(device, {})
        mine = said.get(digest)
        own = {(copy, self._histories.get(copy, 0)) for copy in living}
        if mine is None or mine.history not in own or is_reused:
            if refused not in _WITHOUT_EFFECT:
                self._suspect(device)
            return
        if device not in self.suspects or not is_proof or len(living) != 1:
            return
        epoch, sequence = heard
        if mine.sequence == sequence >= self._seen.get(device, 0) and not any(
            other.history != mine.history and other.epoch >= epoch and other.sequence > sequence and key not in taken
            for key, other in said.items()
        ):
            self.suspects.discard(device)
            self.judged_again += 1

    def _suspect(self, device: str) -> None:
        self.suspects.add(device)
        self.ever.add(device)
        self.accusable.add(device)
