"""Concurrent messages share a commit: one thread owns the write transaction and takes what waits.

A batch begins when the event loop that its messages come from is at rest: it has handed out the replies of the batch
before, and looked once more at what arrived. So the two do not fight over the GIL, and whoever just got a reply
and has more to say is in the next batch. That is a matter of what is there already, never of waiting for more.

Guarantees: an answer is let out after the commit that made it true; a batch that fails leaves nothing and every
message of it gets a retryable error; a lone message does not wait for company. After an ``InvariantError`` nothing is
written any more: whoever waits is told, and ``on_broken`` stops the process. A database that neither commits nor fails
(it waits for a standby that is gone, say) is not waited for without end: whoever waits is told to try again, and so is
whoever comes, until that batch has ended, one way or the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Final

from tallystick.activation.core import issuing
from tallystick.activation.core.ports import Answer, Policy, Signer, Store, Transaction
from tallystick.activation.core.reading import Message
from tallystick.errors import Error, InvariantError
from tallystick.sentences import _

BATCH_MAX: Final = 512  # messages in one transaction; one submission may be larger by itself
WAITING_MAX: Final = 50_000
REST_SECONDS: Final = 0.05  # an event loop that is not at rest after so long is not waited for
PATIENCE_SECONDS: Final = 15.0  # a batch that is under way so long, or up to twice as long, is stuck

_LOG: Final = logging.getLogger(__name__)


_AnyFuture = Future[list[Answer]] | asyncio.Future[list[Answer]]


class BatchError(Error):
    """A batch that was not taken. Nothing of it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Submission:
    messages: Sequence[Message]
    answers: _AnyFuture
    decided: asyncio.Future[None] | None = None


class Batcher:
    """Takes submissions from any thread and answers them in batches."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        policy: Policy,
        *,
        clock: Callable[[], int],
        on_broken: Callable[[InvariantError], None],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._store = store
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._on_broken = on_broken
        self._waiting: deque[_Submission] = deque()
        self._messages_waiting = 0
        self._changed = threading.Condition()
        self._is_loop_busy = False
        self._is_closing = False
        self._broken: InvariantError | None = None
        self._patience_seconds = patience_seconds
        self._under_way: Sequence[_Submission] = ()
        self._is_stuck = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="batcher's watcher", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        self._watcher.start()

    def close(self) -> None:
        """Answer what waits, then stop. A batch that is stuck is left alone."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._ended.wait()

    @property
    def broken(self) -> InvariantError | None:
        """The contradiction after which nothing is written any more."""
        return self._broken

    def submit(self, messages: Sequence[Message]) -> Future[list[Answer]]:
        """The answers, in order, once they are durable. The future raises ``Error`` when nothing was written."""
        answers: Future[list[Answer]] = Future()
        error = self._add(_Submission(messages=messages, answers=answers))
        if error is not None:
            answers.set_exception(error)
        return answers

    def submit_soon(
        self, messages: Sequence[Message], *, decided: asyncio.Future[None] | None = None
    ) -> asyncio.Future[list[Answer]]:
        """The same for a coroutine. A batch wakes its event loop once, however many wait for it there.

        ``decided`` is done as soon as all that is left is the database's to do; never, perhaps, when there is an error.
        """
        loop = asyncio.get_running_loop()
        answers: asyncio.Future[list[Answer]] = loop.create_future()
        error = self._add(_Submission(messages=messages, answers=answers, decided=decided), loop)
        if error is not None:
            answers.set_exception(error)
        return answers

    def _add(self, submission: _Submission, loop: asyncio.AbstractEventLoop | None = None) -> Error | None:
        count = len(submission.messages)
        with self._changed:
            if self._broken is not None:
                return self._broken
            if self._is_closing:
                return BatchError(
                    "database-unavailable", expected=_("an activation server in service"), seen=_("it stops")
                )
            if self._is_stuck:
                return _stuck()
            if self._messages_waiting + count > WAITING_MAX:
                seen = _("{count} waiting", count=self._messages_waiting)
                return BatchError("too-busy", expected=_("fewer messages at once"), seen=seen)
            self._waiting.append(submission)
            self._messages_waiting += count
            if loop is None:
                self._changed.notify()
            elif not self._under_way and not self._is_loop_busy:
                self._is_loop_busy = True
                loop.call_soon(self._go_on)  # with what else it reads in this turn
                self._changed.notify()  # which waits for that, for a while
        return None

    def _go_on(self) -> None:
        with self._changed:
            self._is_loop_busy = False
            self._changed.notify()

    def stop_for(self, error: InvariantError) -> None:
        """Write nothing any more: our own state contradicts itself."""
        _LOG.critical("nothing is written any more: %s", error, exc_info=error)
        with self._changed:
            self._broken = error
            waiting = self._take_all()
        self._fail(waiting, error)
        self._on_broken(error)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._under_way, self._is_stuck = (), False
                while not self._waiting and not self._is_closing:
                    self._changed.wait()
                if self._is_loop_busy and not self._is_closing:
                    self._changed.wait_for(lambda: not self._is_loop_busy or self._is_closing, REST_SECONDS)
                self._is_loop_busy = False
                if not self._waiting:
                    self._ended.set()
                    return
                batch = self._under_way = self._take()
            if batch:
                self._serve(batch)

    def _watch(self) -> None:
        """What is under way at two looks in a row is stuck."""
        seen: Sequence[_Submission] = ()
        while not self._ended.wait(self._patience_seconds):
            with self._changed:
                is_stuck = bool(self._under_way) and self._under_way is seen
                seen = self._under_way
                if not is_stuck:
                    continue
                self._is_stuck = True
                waiting = [*self._under_way, *self._take_all()]
                if self._is_closing:
                    self._ended.set()
            _LOG.warning("a batch of %d neither ends nor fails; whoever waits is told to try again", len(seen))
            self._fail(waiting, _stuck())

    def _take_all(self) -> list[_Submission]:
        waiting = list(self._waiting)
        self._waiting.clear()
        self._messages_waiting = 0
        return waiting

    def _take(self) -> list[_Submission]:
        batch: list[_Submission] = []
        count = 0
        while self._waiting and (not batch or count + len(self._waiting[0].messages) <= BATCH_MAX):
            submission = self._waiting.popleft()
            count += len(submission.messages)
            if isinstance(submission.answers, asyncio.Future) or submission.answers.set_running_or_notify_cancel():
                batch.append(submission)
        self._messages_waiting -= count
        return batch

    def _serve(self, batch: Sequence[_Submission]) -> None:
        messages = [message for submission in batch for message in submission.messages]
        now = self._clock()

        def decide(transaction: Transaction) -> list[Answer]:
            answers = issuing.process(messages, transaction, signer=self._signer, policy=self._policy, now=now)
            for submission in batch:
                if submission.decided is not None:
                    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                        submission.decided.get_loop().call_soon_threadsafe(_note, submission.decided)
            return answers

        try:
            answers = self._store.transact(decide)
        except InvariantError as error:
            self._fail(batch, error)
            self.stop_for(error)
        except Error as error:
            _LOG.warning("a batch of %d was not taken: %s", len(messages), error)
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, and the thread must go on
            self._serve_apart(batch, error)
        else:
            start = 0
            settled: list[tuple[_Submission, list[Answer] | Error]] = []
            for submission in batch:
                end = start + len(submission.messages)
                settled.append((submission, answers[start:end]))
                start = end
            self._deliver(settled)

    def _serve_apart(self, batch: Sequence[_Submission], error: Exception) -> None:
        """A fault of ours that some message brings out: only its own submission fails."""
        if len(batch) > 1:
            for submission in batch:
                self._serve([submission])
            return
        _LOG.error("a fault of Tallystick; nothing was written", exc_info=error)
        self._fail(batch, BatchError("invariant", expected=_("a decision"), seen=type(error).__name__))

    def _fail(self, batch: Sequence[_Submission], error: Error) -> None:
        self._deliver([(submission, error) for submission in batch])

    def _deliver(self, settled: Sequence[tuple[_Submission, list[Answer] | Error]]) -> None:
        """To each what became of it; to an event loop all of its at once, and it says when it is at rest."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[list[Answer]], list[Answer] | Error]]] = {}
        for submission, found in settled:
            if isinstance(submission.answers, asyncio.Future):
                loops.setdefault(submission.answers.get_loop(), []).append((submission.answers, found))
            else:
                _settle([(submission.answers, found)])
        for loop, ours in loops.items():
            with self._changed:
                self._is_loop_busy = True
            try:
                loop.call_soon_threadsafe(self._hand_out, loop, ours)
            except RuntimeError:  # the loop is closed: nobody waits there
                self._go_on()

    def _hand_out(
        self,
        loop: asyncio.AbstractEventLoop,
        settled: Iterable[tuple[asyncio.Future[list[Answer]], list[Answer] | Error]],
    ) -> None:
        _settle(settled)  # whoever waits is called in the next turn of the loop,
        loop.call_soon(loop.call_soon, self._go_on)  # and in the one after that it has read what came since


def _stuck() -> BatchError:
    return BatchError("database-unavailable", expected=_("a commit in time"), seen=_("one that neither ends nor fails"))


def _note(decided: asyncio.Future[None]) -> None:
    if not decided.done():
        decided.set_result(None)


def _settle(settled: Iterable[tuple[_AnyFuture, list[Answer] | Error]]) -> None:
    for future, found in settled:
        if future.done():
            continue
        with contextlib.suppress(InvalidStateError):  # it was told to try again in this very moment
            if isinstance(found, Error):
                future.set_exception(found)
            else:
                future.set_result(found)
