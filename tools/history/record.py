"""What was seen, and when: every request with the moment before it and the moment after its answer.

Moments are seconds of this process's monotonic clock. A request whose answer never came has no end: it may have taken
effect at any moment since it began, or never.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

NEVER: Final = inf


@dataclass(slots=True, kw_only=True)
class Post:
    """Messages that were carried together, and the signed reply to each that was answered, by digest."""

    digests: Sequence[str]
    begun: float
    ended: float = NEVER
    replies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Verb:
    """What a person did, or tried. ``outcome``: ``done``, a code of a refusal, or None: nobody knows."""

    name: str
    subject: str
    begun: float
    ended: float = NEVER
    outcome: str | None = None
    change: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Look:
    """A line as it was shown."""

    line: str
    begun: float
    ended: float
    shown: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Held:
    """What a field server surely held from one moment to another, by line, and the epoch of its grant."""

    device: str
    epoch: int
    quantities: Mapping[str, int]
    begun: float
    ended: float = NEVER


@dataclass(slots=True)
class History:
    """One run. Threads may share it."""

    posts: list[Post] = field(default_factory=list)
    verbs: list[Verb] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)  # every message that ever left a field server, by digest
    suspects: set[str] = field(default_factory=set)  # of which there are two
    faults: dict[str, int] = field(default_factory=dict)
    _now: dict[str, Held] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def now() -> float:
        """This moment."""
        return time.monotonic()

    def add_post(self, messages: Mapping[str, str]) -> Post:
        """Messages are about to be sent."""
        with self._lock:
            self.messages.update(messages)
            post = Post(digests=list(messages), begun=self.now())
            self.posts.append(post)
            return post

    def add_verb(self, name: str, subject: str, change: Mapping[str, Any]) -> Verb:
        """A person is about to do something."""
        with self._lock:
            verb = Verb(name=name, subject=subject, change=change, begun=self.now())
            self.verbs.append(verb)
            return verb

    def add_look(self, look: Look) -> None:
        """Somebody looked."""
        with self._lock:
            self.looks.append(look)

    def note_held(self, device: str, epoch: int, quantities: Mapping[str, int], *, since: float) -> None:
        """A field server took a step: it held what it held before until ``since``, and this from now on."""
        with self._lock:
            before = self._now.get(device)
            if before is not None:
                if (before.epoch, before.quantities) == (epoch, quantities):
                    return
                before.ended = since
            held = Held(device=device, epoch=epoch, quantities=dict(quantities), begun=self.now())
            self._now[device] = held
            self.held.append(held)

    def note_fault(self, name: str) -> None:
        """Something was killed."""
        with self._lock:
            self.faults[name] = self.faults.get(name, 0) + 1
