"""A thread that owns a connection, and runs what waits for it in one transaction (group commit)."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

import apsw

from ratus.errors import StorageUnavailable, TooLarge
from ratus.gather import LONGEST_GATHERING, QUIET_TURNS

In = TypeVar("In")
Out = TypeVar("Out")
Operation = Callable[[apsw.Connection, Sequence[In]], Sequence[Out]]

_log: Final = logging.getLogger(__name__)
_STORAGE_FAULTS: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.InterruptError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)


class _Job(Generic[In, Out]):
    __slots__ = ("entries", "future", "operation")

    def __init__(self, operation: Operation[In, Out], entries: Sequence[In], future: "asyncio.Future[Sequence[Out]]"):
        self.operation = operation
        self.entries = entries
        self.future = future


class Worker:
    """Runs operations on a connection, one group of waiting calls after the other.

    An operation takes a batch of entries and answers one result for each, in order. Calls of the same operation
    that wait at the same time become one batch, and all that wait share one transaction; a call is answered once it
    is on disk. If a group fails, its calls run again one by one, so that one failing call fails alone.

    Calls gather while the group before them is under way, and while the event loop has more of them to take in: so a
    busy server has few and large groups, and an idle one loses no more than a few turns of the loop, some microseconds.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        name: str,
        *,
        writes: bool,
        after_group: Callable[[], None] | None = None,
    ) -> None:
        self._db = connection
        self._after_group = after_group  # what the thread does between two groups
        self._writes = writes
        self._waiting: list[_Job[Any, Any]] = []
        self._busy = False  # a group is under way, or calls gather for one
        self._idle = asyncio.Event()
        self._idle.set()
        self._groups: SimpleQueue[list[_Job[Any, Any]] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, operation: Operation[In, Out], entries: Sequence[In]) -> Sequence[Out]:
        """Run an operation on entries; what it raises, and StorageUnavailable or TooLarge for faults of SQLite.

        A caller that is cancelled does not stop the operation.
        """
        future: asyncio.Future[Sequence[Out]] = self._loop.create_future()
        self._waiting.append(_Job(operation, entries, future))
        if not self._busy:
            self._gather()
        return await future

    async def close(self) -> None:
        """Run what waits, then end the thread and close the connection."""
        await self._idle.wait()
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    def _gather(self) -> None:
        self._busy = True
        self._idle.clear()
        self._gather_more(0, 0, self._loop.time() + LONGEST_GATHERING)

    def _gather_more(self, seen: int, quiet: int, until: float) -> None:
        """Begin a group if no calls have come in lately, else look again after what the loop has to do now."""
        count = len(self._waiting)
        quiet = 0 if count > seen else quiet + 1
        if quiet < QUIET_TURNS and self._loop.time() < until:
            self._loop.call_soon(self._gather_more, count, quiet, until)
        else:
            group, self._waiting = self._waiting, []
            self._groups.put(group)

    def _end(self, answers: list[tuple[_Job[Any, Any], Sequence[Any] | BaseException]]) -> None:
        _deliver(answers)
        if self._waiting:
            self._gather()
        else:
            self._busy = False
            self._idle.set()

    def _run(self) -> None:
        while (group := self._groups.get()) is not None:
            answers = self._run_group(group)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._end, answers)
            if self._after_group is not None:
                self._after_group()
        self._db.close()

    def _run_group(self, jobs: list[_Job[Any, Any]]) -> list[tuple[_Job[Any, Any], Sequence[Any] | BaseException]]:
        batches: dict[Operation[Any, Any], list[_Job[Any, Any]]] = {}
        for job in jobs:
            batches.setdefault(job.operation, []).append(job)
        try:
            results = self._transact(batches)
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is the answer to somebody)
            if len(jobs) > 1:
                return [answer for job in jobs for answer in self._run_group([job])]
            return [(job, _translate(error)) for job in jobs]
        return results

    def _transact(self, batches: dict[Operation[Any, Any], list[_Job[Any, Any]]]) -> list[tuple[_Job[Any, Any], Any]]:
        answers: list[tuple[_Job[Any, Any], Any]] = []
        if self._db.in_transaction:  # the end of the one before has failed
            self._db.execute("ROLLBACK")
        self._db.execute("BEGIN IMMEDIATE" if self._writes else "BEGIN")
        try:
            for operation, jobs in batches.items():
                if len(jobs) == 1:
                    answers.append((jobs[0], operation(self._db, jobs[0].entries)))
                    continue
                results = operation(self._db, [entry for job in jobs for entry in job.entries])
                position = 0
                for job in jobs:
                    answers.append((job, results[position : position + len(job.entries)]))
                    position += len(job.entries)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return answers


def _deliver(answers: list[tuple[_Job[Any, Any], Sequence[Any] | BaseException]]) -> None:
    for job, answer in answers:
        if job.future.done():  # the caller was cancelled
            continue
        if isinstance(answer, BaseException):
            job.future.set_exception(answer)
        else:
            job.future.set_result(answer)


def _translate(error: BaseException) -> BaseException:
    if isinstance(error, apsw.TooBigError):
        return TooLarge("the answer exceeds what SQLite can hold")
    if isinstance(error, _STORAGE_FAULTS):
        _log.error("SQLite: %s: %s", type(error).__name__, error)
        return StorageUnavailable("the database file cannot be used now")
    return error
