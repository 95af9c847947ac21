"""The two kinds of consumers that a claimer feeds: a call that claims tasks once, and a stream."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from ratus import rules, times
from ratus.config import MAX_ANSWER_BYTES
from ratus.core.claimer import Claimer
from ratus.core.windows import Windows, size_of
from ratus.errors import Draining, RatusError
from ratus.model import ClaimRequest, Grant, Hold, PollRequest, Task

_ENVELOPE: Final = 128  # bytes, more than a task's fields take beside its names and payload


def room_in_answer(tasks: Sequence[Task], used: int = 0) -> int:
    """The number of tasks that fit into one answer, at least one."""
    for index, task in enumerate(tasks):
        used += size_of(task) + 4 * (len(task.id) + len(task.topic) + len(task.producer) + len(task.consumer))
        used += _ENVELOPE
        if used > MAX_ANSWER_BYTES and index:
            return index
    return len(tasks)


class Claimant:
    """A call that claims up to `limit` tasks once. Its answer is the first tasks that there are."""

    def __init__(self, request: ClaimRequest) -> None:
        self._request = request
        self._patient = bool(request.wait)
        self._tasks: list[Task] = []
        self._reserved = 0
        self._answer: asyncio.Future[list[Task]] = asyncio.get_running_loop().create_future()

    @property
    def wanted(self) -> int:
        """The tasks that are missing."""
        return self._request.limit - len(self._tasks)

    def abandon(self) -> list[Task]:
        """Take no more tasks; what there is has to be released."""
        if not self._answer.cancel() and not self._answer.cancelled():
            self._answer.exception()  # nobody will ask for it
        return self._tasks

    def drain(self) -> None:
        """End the wait with Draining, unless a claim is under way, which is answered."""
        self._patient = False
        if not self._reserved and not self._answer.done():
            self._answer.set_exception(Draining("connect elsewhere"))

    async def answer(self) -> list[Task]:
        """Wait for the answer, or as long as the request says; what a claim under way brings is waited for."""
        if not self._patient:
            return await self._answer
        assert self._request.wait is not None
        try:
            async with asyncio.timeout(self._request.wait / timedelta(seconds=1)):
                return await asyncio.shield(self._answer)
        except TimeoutError:
            self._patient = False
            if not self._reserved:
                self._finish()
            return await self._answer

    def reserve(self) -> bool:
        """Keep a place for one more task."""
        if self._answer.done() or self._reserved + len(self._tasks) >= self._request.limit:
            return False
        self._reserved += 1
        return True

    def grant(self, now: datetime) -> Grant:
        """What the promise for one task sets on it."""
        return rules.grant(self._request.consumer, self._request.deadline, self._request.timeout, now)

    def deliver(self, tasks: list[Task], unused: int) -> list[Task]:
        """Take what fits into the answer."""
        self._reserved = 0
        if self._answer.done():
            return tasks
        self._tasks += tasks
        fit = room_in_answer(self._tasks) if self._tasks else 0
        refused = self._tasks[fit:]
        del self._tasks[fit:]
        if refused or len(self._tasks) == self._request.limit or (self._tasks and unused):
            self._finish()
        return refused

    def dry(self) -> None:
        """Answer with what there is, if the call does not wait."""
        if self._tasks or not self._patient:
            self._finish()

    def fail(self, error: RatusError, unused: int) -> None:
        """Answer with what there is, else with the error."""
        self._reserved = 0
        if self._tasks:  # of an earlier batch; they are the answer
            self._finish()
        elif not self._answer.done():
            self._answer.set_exception(error)

    def _finish(self) -> None:
        if not self._answer.done():
            self._answer.set_result(self._tasks)


class Subscription:
    """A stream of tasks of some topics, bounded by a window.

    Tasks are claimed only while `next` is waiting for them, so that the transport takes them at once.
    """

    def __init__(
        self,
        request: PollRequest,
        windows: Windows,
        claimers: Sequence[Claimer],
        on_close: Callable[["Subscription", Sequence[Hold]], None],
    ) -> None:
        self._request = request
        self._on_close = on_close
        self._window = windows.open(request.max_in_flight, request.max_bytes, self._on_room)
        self._lines = deque(_Line(self, claimer) for claimer in claimers)
        for line in self._lines:
            line.claimer.attach(line)
        self._turned_away: dict[_Line, None] = {}  # as all places were kept for claims that were under way
        self._ready: list[Task] = []  # claimed, to be answered by `next`
        self._listening = False
        self._misfit = False  # the next task is too large for the window; wait until it holds less
        self._blocked = False  # no task can be taken until the window holds less
        self._changed = asyncio.Event()
        self._draining = False
        self._closed = False

    async def next(self) -> list[Task]:
        """Wait for the next tasks to send, at least one and no more than an answer can hold; Draining."""
        self._listening = True
        try:
            while not self._ready:
                if self._draining:
                    raise Draining("connect elsewhere")
                self._changed.clear()
                self._window.expire(times.now())
                self._join_lines()
                await self._wait()
        finally:
            self._listening = False
            for line in self._lines:
                line.claimer.leave(line)
        count = room_in_answer(self._ready)
        tasks, self._ready = self._ready[:count], self._ready[count:]
        return tasks

    def close(self, unsent: Sequence[Task] = ()) -> None:
        """End the stream: give back at once what was not sent, and with `release_on_close` what it still holds.

        When the server drains, what was delivered stays with the client, since it commits elsewhere.
        """
        if self._closed:
            return
        self._closed = True
        for line in self._lines:
            line.claimer.detach(line)
        holds = self._window.holds()
        if not self._request.release_on_close or self._draining:
            unsent_ids = {task.id for task in (*unsent, *self._ready)}
            holds = [hold for hold in holds if hold.id in unsent_ids]
        self._window.close()
        self._on_close(self, holds)

    def drain(self) -> None:
        """Let `next` end with Draining."""
        self._draining = True
        self._changed.set()

    def reserve(self, line: "_Line") -> bool:
        """Keep a place for one more task."""
        if not self._listening or self._ready or self._misfit:
            return False
        if not self._window.has_room:
            if self._window.reserved:
                self._turned_away.setdefault(line)
            return False
        self._window.reserved += 1
        return True

    def grant(self, now: datetime) -> Grant:
        """What the promise for one task sets on it."""
        return rules.grant(self._request.consumer, None, self._request.timeout, now)

    def deliver(self, tasks: list[Task], unused: int) -> list[Task]:
        """Take tasks that the stream has room for and still waits for; give back the others."""
        self.take_back(len(tasks) + unused)
        refused: list[Task] = []
        for task in tasks:
            if not self._listening or self._closed:
                refused.append(task)
            elif refused or not self._window.fits(task):
                self._misfit = True
                refused.append(task)
            else:
                self._window.add(task)
                self._ready.append(task)
        if self._ready:
            self._changed.set()
        return refused

    def take_back(self, places: int) -> None:
        """Offer places again that were kept in vain, to the lines that were turned away meanwhile."""
        self._window.reserved -= places
        turned_away, self._turned_away = self._turned_away, {}
        if self._listening:
            for line in turned_away:
                line.claimer.join(line)

    def _join_lines(self) -> None:
        """Join the line of every topic, each time another one first."""
        self._blocked = self._misfit or not self._window.has_room
        if not self._blocked:
            self._lines.rotate(1)
            for line in self._lines:
                line.claimer.join(line)

    def _on_room(self) -> None:
        self._misfit = False
        if self._blocked:
            self._changed.set()

    async def _wait(self) -> None:
        """Wait for tasks, for room, or for a deadline that makes room."""
        deadline = self._window.next_deadline() if self._blocked else None
        if deadline is None:
            await self._changed.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max((deadline - times.now()) / timedelta(seconds=1), 0.001)):
                await self._changed.wait()


class _Line:
    """The place of a stream in the line of one topic."""

    wanted = 0

    def __init__(self, subscription: Subscription, claimer: Claimer) -> None:
        self._subscription = subscription
        self.claimer = claimer

    def reserve(self) -> bool:
        return self._subscription.reserve(self)

    def grant(self, now: datetime) -> Grant:
        return self._subscription.grant(now)

    def deliver(self, tasks: list[Task], unused: int) -> list[Task]:
        return self._subscription.deliver(tasks, unused)

    def dry(self) -> None:
        """A stream waits for the next task."""

    def fail(self, error: RatusError, unused: int) -> None:
        """A stream outlives failures of the storage."""
        self._subscription.take_back(unused)
