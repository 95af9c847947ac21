"""A thread that owns a connection, and runs what waits for it in one transaction (group commit)."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

import apsw

from ratus.errors import StorageUnavailable, TooLarge

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
    """

    def __init__(self, connection: apsw.Connection, name: str, *, writes: bool) -> None:
        self._db = connection
        self._writes = writes
        self._queue: SimpleQueue[_Job[Any, Any] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, operation: Operation[In, Out], entries: Sequence[In]) -> Sequence[Out]:
        """Run an operation on entries; what it raises, and StorageUnavailable or TooLarge for faults of SQLite.

        A caller that is cancelled does not stop the operation.
        """
        future: asyncio.Future[Sequence[Out]] = self._loop.create_future()
        self._queue.put(_Job(operation, entries, future))
        return await future

    async def close(self) -> None:
        """Run what waits, then end the thread and close the connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        open_ = True
        while open_:
            jobs: list[_Job[Any, Any]] = []
            job = self._queue.get()
            while True:
                if job is None:
                    open_ = False
                else:
                    jobs.append(job)
                try:
                    job = self._queue.get_nowait()
                except Empty:
                    break
            answers = self._run_group(jobs)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_deliver, answers)
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
