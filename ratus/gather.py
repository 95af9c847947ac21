"""Gathering: concurrent calls become one batch while the batch before them is under way, or the loop has more of them.

There are no timers: an idle gatherer waits for no more than five turns of the event loop, some microseconds, and for
none of them while entries come one at a time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

Entry = TypeVar("Entry")
Result = TypeVar("Result")

QUIET_TURNS: Final = 5  # turns of the event loop without a new call, after which a batch begins
LONGEST_GATHERING: Final = 0.002  # seconds


async def quiet(count: Callable[[], int], enough: int) -> None:
    """Wait while the event loop brings more of what is counted, until there is enough; never for long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LONGEST_GATHERING
    seen, turns = count(), 0
    while turns < QUIET_TURNS and seen < enough and loop.time() < until:
        await asyncio.sleep(0)
        now = count()
        seen, turns = now, (0 if now > seen else turns + 1)


class Gatherer(Generic[Entry, Result]):
    """Runs the entries of concurrent calls as batches, one at a time, in the order of the calls.

    `run` gives one result per entry; what concerns a single entry is a result too, since an error that `run` raises
    is raised by every call of the batch. A call is never split; beyond a weight of `limit`, calls wait for the next
    batch (an entry weighs 1, if `weigh` does not tell otherwise). A call that is cancelled leaves its batch alone,
    and is not begun if it was still waiting.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Entry]], Coroutine[Any, Any, Sequence[Result]]],
        limit: int = 1000,
        weigh: Callable[[Entry], int] | None = None,
    ) -> None:
        self._run = run
        self._limit = limit
        self._weigh = weigh
        self._waiting: deque[tuple[Sequence[Entry], asyncio.Future[Sequence[Result]]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._alone = True  # the last batch was one entry

    async def submit(self, entries: Sequence[Entry]) -> Sequence[Result]:
        """The results for these entries, in their order."""
        if not entries:
            return []
        answer: asyncio.Future[Sequence[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def close(self) -> None:
        """Return when all calls have been answered."""
        while self._worker is not None:
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        try:
            while True:
                if not self._alone or len(self._waiting) > 1:
                    await quiet(lambda: len(self._waiting), self._limit)
                if not (calls := self._next()):
                    break
                batch = [entry for entries, _ in calls for entry in entries]
                self._alone = len(batch) == 1
                try:
                    results = await self._run(batch)
                except asyncio.CancelledError as error:
                    _fail(calls, error)
                    if self._worker is None or self._worker.cancelling():
                        raise
                except BaseException as error:  # noqa: BLE001 (whatever it is, it is the answer to every call)
                    _fail(calls, error)
                else:
                    _answer(calls, results)
        finally:
            self._worker = None

    def _next(self) -> list[tuple[Sequence[Entry], asyncio.Future[Sequence[Result]]]]:
        calls: list[tuple[Sequence[Entry], asyncio.Future[Sequence[Result]]]] = []
        total = 0
        while self._waiting:
            entries, answer = self._waiting[0]
            if not answer.done():
                total += len(entries) if self._weigh is None else sum(map(self._weigh, entries))
                if calls and total > self._limit:
                    break
                calls.append((entries, answer))
            self._waiting.popleft()
        return calls


def _answer(
    calls: Sequence[tuple[Sequence[Entry], asyncio.Future[Sequence[Result]]]], results: Sequence[Result]
) -> None:
    position = 0
    for entries, answer in calls:
        if not answer.done():
            answer.set_result(results[position : position + len(entries)])
        position += len(entries)


def _fail(calls: Sequence[tuple[Sequence[Entry], asyncio.Future[Sequence[Result]]]], error: BaseException) -> None:
    for _, answer in calls:
        if answer.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            answer.cancel()
        else:
            answer.set_exception(error)
