"""Workers: each owns a connection, and runs the calls that wait for it in groups."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from ratus.engines.sqlite import groups
from ratus.engines.sqlite.groups import Answer, Call, Operation
from ratus.engines.sqlite.schema import Connection
from ratus.gather import LONGEST_GATHERING, QUIET_TURNS
from ratus.reply import Reply

In = TypeVar("In")
Out = TypeVar("Out")


class Worker(ABC):
    """Runs operations on a connection, those that wait at the same time in one transaction.

    A call is answered once its transaction is on disk. Calls gather while the event loop has more of them to take in,
    or until they are for `enough` tasks; then they are passed on. What has been passed on while a transaction was under
    way is the next one: so a busy server has few and large transactions, and an idle one loses no more than a few turns
    of the loop, some microseconds.
    """

    def __init__(self, enough: int | None) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._enough = enough
        self._gathered: list[tuple[Call, Reply[Sequence[Any]]]] = []
        self._passed_on: deque[Reply[Sequence[Any]]] = deque()
        self._weight = 0  # of what is gathered
        self._gathering = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(
        self,
        operation: Operation[In, Out],
        entries: Sequence[In],
        weight: int = 0,
        abandoned: Callable[[Sequence[Out]], None] | None = None,
    ) -> Sequence[Out]:
        """Run an operation on entries; what it raises, and StorageUnavailable or TooLarge for faults of SQLite.

        The weight is the number of tasks, if that is not the number of entries. A caller that is cancelled does not
        stop the operation, whose results are then given to `abandoned`.
        """
        reply: Reply[Sequence[Out]] = Reply(self._loop, abandoned)
        self._gathered.append((Call(operation, entries), reply))
        self._weight += weight or len(entries)
        self._idle.clear()
        if self._enough is not None and self._weight >= self._enough:
            self._pass_on_gathered()
        elif not self._gathering:
            self._gathering = True
            self._gather(0, 0, self._loop.time() + LONGEST_GATHERING)
        return await reply.wait()

    async def close(self) -> None:
        """Run what waits, then close the connection."""
        idle = False
        while not idle:
            await self._idle.wait()
            await asyncio.sleep(0)  # in which what was given to nobody is given back, by a call of its own
            idle = self._idle.is_set()

    @abstractmethod
    def _pass_on(self, calls: list[Call]) -> None:
        """Have calls run, whose answers are then given to `_answer`, in the same order."""

    def _gather(self, seen: int, quiet: int, until: float) -> None:
        """Pass calls on if none have come in lately, else look again after what the loop has to do now."""
        count = len(self._gathered)
        quiet = quiet + 1 if count == seen else 0
        if quiet < QUIET_TURNS and self._loop.time() < until:
            self._loop.call_soon(self._gather, count, quiet, until)
        else:
            self._gathering = False
            if self._gathered:
                self._pass_on_gathered()

    def _pass_on_gathered(self) -> None:
        gathered, self._gathered, self._weight = self._gathered, [], 0
        self._passed_on.extend([reply for _, reply in gathered])
        self._pass_on([call for call, _ in gathered])

    def _answer(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self._passed_on.popleft().give(answer)
        if not self._passed_on and not self._gathered:
            self._idle.set()


class ThreadWorker(Worker):
    """Runs groups in a thread of this process; `after_group` is what the thread does between two of them."""

    def __init__(
        self, connection: Connection, name: str, *, writes: bool, after_group: Callable[[], None] | None = None
    ) -> None:
        super().__init__(enough=None)
        self._db = connection
        self._writes = writes
        self._after_group = after_group
        self._queue: SimpleQueue[list[Call] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Run what waits, then end the thread and close the connection."""
        await super().close()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _pass_on(self, calls: list[Call]) -> None:
        self._queue.put(calls)

    def _run(self) -> None:
        while (group := self._queue.get()) is not None:
            while not self._queue.empty():  # the end comes alone
                group += self._queue.get() or []
            answers = groups.run(self._db, group, writes=self._writes)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._answer, answers)
            if self._after_group is not None:
                self._after_group()
        self._db.close()
