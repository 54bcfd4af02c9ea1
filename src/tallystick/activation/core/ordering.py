"""In which order the messages of one batch are decided: what frees before what takes, wherever they stand.

The messages of one field server stay in the order of their sequence: couriers reorder, and nobody should be refused for
it needlessly. Who wants to activate waits until no other message of the batch can free anything before it, and what it
proves itself counts before anybody takes. Among those that wait, who has more to say behind goes first, because that
may free something; then whoever stands first.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from tallystick.activation.core.reading import Message
from tallystick.domain.ids import DeviceId

StateT = TypeVar("StateT")


def decide_all(
    batch: Sequence[Message], *, begin: Callable[[Message], StateT | None], finish: Callable[[StateT], None]
) -> None:
    """``begin`` does with a message all but what it takes, and hands back what ``finish`` needs; None: all is done."""
    queues: dict[DeviceId, deque[Message]] = {}
    for message in sorted(batch, key=lambda message: message.request.sequence):
        queues.setdefault(message.device_id, deque()).append(message)
    waiting: dict[DeviceId, StateT] = {}
    taking: list[tuple[bool, int, DeviceId]] = []

    def take_next(device_id: DeviceId, place: int) -> None:
        queue = queues[device_id]
        state = begin(queue.popleft())
        if state is not None:
            waiting[device_id] = state
            heapq.heappush(taking, (not queue, place, device_id))

    for place, message in enumerate(batch):
        if message.device_id not in waiting:
            take_next(message.device_id, place)
    while taking:
        _has_said_all, place, device_id = heapq.heappop(taking)
        finish(waiting.pop(device_id))
        while queues[device_id] and device_id not in waiting:
            take_next(device_id, place)
