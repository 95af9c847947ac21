"""A stream of tasks."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from ratus import rules, times
from ratus.core.answers import room_in_answer
from ratus.core.claimer import Claimer
from ratus.core.windows import Windows
from ratus.errors import Draining, RatusError
from ratus.model import Grant, Hold, PollRequest, Task

_SECOND: Final = timedelta(seconds=1)


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
        *,
        notices: bool,
    ) -> None:
        self._request = request
        self._notices = notices
        self._on_close = on_close
        self._window = windows.open(request.max_in_flight, request.max_bytes, self._on_change)
        self._lines = deque(_Line(self, claimer) for claimer in claimers)
        for line in self._lines:
            line.claimer.attach(line)
        self._turned_away: dict[_Line, None] = {}  # as all places were kept for claims that were under way
        self._ready: list[Task] = []  # claimed, to be answered by `next`
        self._listening = False
        self._misfit = False  # the next task is too large for the window; wait until it holds less
        self._blocked = False  # no task can be taken until the window holds less
        self._awaited: datetime | None = None  # the deadline that `next` waits for
        self._changed = asyncio.Event()
        self._draining = False
        self._closed = False

    async def next(self, idle: timedelta | None = None) -> list[Task]:
        """Wait for the next tasks to send, no more than an answer can hold; Draining.

        There are none after `idle` without any, and when a stream with notices has lost tasks.
        """
        self._listening = True
        until = None if idle is None else asyncio.get_running_loop().time() + idle / _SECOND
        try:
            while not self._ready:
                if self._draining:
                    raise Draining()
                self._changed.clear()
                self._window.expire(times.now())
                if self._notices and self._window.lost:
                    return []
                self._join_lines()
                if not await self._wait(until):
                    return []
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

    def resize(self, max_in_flight: int, max_bytes: int) -> None:
        """Set another window; what was delivered beyond it stays with the client. BadRequest."""
        self._window.resize(*rules.check_window(max_in_flight, max_bytes))

    def take_lost(self) -> list[str]:
        """The tasks since the last call whose promises ended in other ways than by their holder."""
        lost, self._window.lost = self._window.lost, []
        return lost

    @property
    def watchful(self) -> bool:
        """Whether it matters at once that a task which is held has been settled elsewhere."""
        return self._notices or self._blocked

    def holds(self) -> list[Hold]:
        """What was delivered and still counts."""
        return self._window.holds()

    def look(self, now: datetime) -> None:
        """See what the clock shows, which may have been set since the timer was."""
        if self._awaited is not None and self._awaited <= now:
            self._changed.set()

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

    def _on_change(self) -> None:
        self._misfit = False
        if not self._notices:
            self._window.lost.clear()
        self._changed.set()

    async def _wait(self, until: float | None) -> bool:
        """Wait for tasks, for room, or for a deadline that makes room; False if the time is up before."""
        loop = asyncio.get_running_loop()
        wake = until
        self._awaited = self._window.next_deadline() if self.watchful else None
        if self._awaited is not None:
            passed = loop.time() + max((self._awaited - times.now()) / _SECOND, 0.001)
            wake = passed if until is None else min(passed, until)
        try:
            async with asyncio.timeout_at(wake):
                await self._changed.wait()
        except TimeoutError:
            return until is None or loop.time() < until
        return True


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
