"""Who may send next: fair shares of what this process sends at once, so that a slow receiver costs only itself.

Guarantees: no endpoint has more than a few deliveries under way, one that did not answer promptly a single one; no owner
has more than a part of all for such; a quarter is kept for endpoints that answered promptly the last time. Of those that may,
the owner with the fewest under way goes first. Nothing here sends, sleeps, or looks at a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

SLOTS: Final = 256
OWNER_MAX: Final = 100  # as many as the vendor may have endpoints: one that is new is not held up by the others
PROMPT_KEPT: Final = 64
ENDPOINT_MAX: Final = 4
PROMPT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DueEndpoint:
    """An endpoint for which something is due. ``owner``: the account whose it is, or which it is for; None: the vendor."""

    webhook_id: str
    owner: str | None


class Shares:
    """What is under way in this process, and how endpoints answered it."""

    def __init__(self) -> None:
        self._endpoints: Counter[str] = Counter()
        self._owners: Counter[str | None] = Counter()
        self._slow_of: Counter[str | None] = Counter()
        self._prompt: set[str] = set()
        self._is_slow: dict[str, bool] = {}

    @property
    def under_way(self) -> int:
        """How many slots are taken."""
        return self._endpoints.total()

    def choose(self, due: Sequence[DueEndpoint]) -> Iterator[DueEndpoint]:
        """Those that begin now, one slot each; each is taken before the next one is chosen."""
        left = list(due)
        while left:
            left.sort(key=lambda one: (self._owners[one.owner], self._endpoints[one.webhook_id]))
            chosen = next((one for one in left if self._may(one)), None)
            if chosen is None:
                return
            left.remove(chosen)
            self._take(chosen)
            yield chosen

    def end(self, endpoint: DueEndpoint, *, is_prompt: bool) -> None:
        """A slot is free again; ``is_prompt``: everything was taken, and without delay."""
        self._endpoints[endpoint.webhook_id] -= 1
        self._owners[endpoint.owner] -= 1
        if self._is_slow.get(endpoint.webhook_id):
            self._slow_of[endpoint.owner] -= 1
        if not self._endpoints[endpoint.webhook_id]:
            del self._endpoints[endpoint.webhook_id]
            self._is_slow.pop(endpoint.webhook_id, None)
        if not self._owners[endpoint.owner]:
            del self._owners[endpoint.owner]
        (self._prompt.add if is_prompt else self._prompt.discard)(endpoint.webhook_id)

    def _may(self, one: DueEndpoint) -> bool:
        is_prompt = one.webhook_id in self._prompt and not self._is_slow.get(one.webhook_id)
        if self.under_way >= SLOTS:
            return False
        if not is_prompt and (self._slow_of[one.owner] >= OWNER_MAX or self._slow_of.total() >= SLOTS - PROMPT_KEPT):
            return False
        return self._endpoints[one.webhook_id] < (ENDPOINT_MAX if is_prompt else 1)

    def _take(self, one: DueEndpoint) -> None:
        if not self._endpoints[one.webhook_id]:
            self._is_slow[one.webhook_id] = one.webhook_id not in self._prompt
        self._endpoints[one.webhook_id] += 1
        self._owners[one.owner] += 1
        self._slow_of[one.owner] += self._is_slow[one.webhook_id]
