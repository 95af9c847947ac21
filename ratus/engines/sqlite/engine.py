"""The engine: which operation answers which call, on which connection."""

import asyncio
import fcntl
import os
import time
from collections.abc import Sequence
from datetime import datetime
from typing import BinaryIO, Final, TypeVar

from ratus.config import SQLiteSettings
from ratus.engines.base import Abandoned, Heard
from ratus.engines.sqlite import checks, reads, schema, writes
from ratus.engines.sqlite.apart import WriterProcess
from ratus.engines.sqlite.checkpoints import Checkpoints
from ratus.engines.sqlite.copies import Copies
from ratus.engines.sqlite.groups import Operation
from ratus.engines.sqlite.rows import Value
from ratus.engines.sqlite.worker import ThreadWorker, Worker
from ratus.errors import NotFound, RatusError, StartError, Unsupported
from ratus.model import Check, Commit, Extension, Grant, Hold, Task, TaskState, Topic, TopicStats
from ratus.times import MILLISECOND, from_ms, to_ms

In = TypeVar("In")
Out = TypeVar("Out")

_LOCK_PATIENCE: Final = 5.0  # seconds that a start waits for the lock of a file
_LOCK_PAUSE: Final = 0.02  # seconds between tries


class SQLiteEngine:
    """Tasks in one SQLite file, or in memory when the settings have no path."""

    shared = False

    def __init__(self, settings: SQLiteSettings, *, apart: bool = False) -> None:
        """With `apart` the writer of a file is a process of its own, else a thread of this one."""
        self._settings = settings
        self._apart = apart
        self._checkpoints: Checkpoints | None = None  # that are made in this process
        self._writer: Worker
        self._reader: Worker
        self.name = "memory" if settings.path is None else "sqlite"
        self._lock: int | None = None

    async def open(self) -> None:
        """Lock and open the file, or create it; StartError."""
        path = self._settings.path
        if path is not None:
            schema.check_header(path)
            self._lock = await asyncio.to_thread(_lock, path)
        try:
            await self._open(path)
        except StartError:
            self._unlock()
            raise

    async def _open(self, path: str | None) -> None:
        if path is None:
            connection = await asyncio.to_thread(schema.connect, None)
            self._writer = self._reader = ThreadWorker(connection, "sqlite-writer", writes=True)
            return
        if self._apart:
            assert self._lock is not None
            writer = WriterProcess(path, self._lock)
            await writer.open()
            self._writer = writer
        else:
            connection = await asyncio.to_thread(schema.connect, path)
            self._checkpoints = Checkpoints(path, connection)
            after_group = self._checkpoints.after_group
            self._writer = ThreadWorker(connection, "sqlite-writer", writes=True, after_group=after_group)
        # A list must not keep writers waiting. In memory there is one connection only.
        self._reader = ThreadWorker(schema.connect_reader(path), "sqlite-reader", writes=False)
        self._copies = Copies(path)

    async def close(self) -> None:
        """Finish what was begun, then close and unlock the file."""
        if self._reader is not self._writer:
            await self._copies.close()
            await self._reader.close()
        if self._checkpoints is not None:
            await asyncio.to_thread(self._checkpoints.stop)
        await self._writer.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def check(self) -> None:
        """Read a little."""
        await self._read(reads.ping, None)

    async def _read(self, operation: Operation[In, Out], entry: In) -> Out:
        [result] = await self._reader.run(operation, (entry,))
        return result

    async def _write(self, operation: Operation[In, Out], entry: In) -> Out:
        [result] = await self._writer.run(operation, (entry,))
        return result

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        return list(await self._writer.run(writes.insert, tasks))

    async def upsert(self, tasks: Sequence[Task]) -> list[bool]:
        return list(await self._writer.run(writes.upsert, tasks))

    async def get(self, id: str) -> Task:
        return _raise(await self._read(reads.get, id))

    async def list_tasks(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        return await self._read(reads.list_tasks, (topic, after, skip, limit))

    async def delete(self, id: str) -> int:
        return await self._write(writes.delete, id)

    async def delete_tasks(self, topic: str, state: int | None) -> int:
        if state is None:
            return await self._delete_all("topic = ?", topic)
        if state in (TaskState.PENDING, TaskState.ACTIVE):
            return await self._delete_all(
                f"topic = ? AND state = {int(state)}", topic
            )  # these have indexes of their own
        return await self._delete_finished(topic, state)

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
        if not grants:
            return []
        claim = writes.Claim(topic, max_bytes, list(grants))

        def abandon(results: Sequence[list[Task]]) -> None:
            if abandoned is not None:
                abandoned(results[0])

        [tasks] = await self._writer.run(writes.claim, [claim], len(grants), abandon)
        return tasks

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        return _raise(await self._write(writes.promise, (id, grant, force)))

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        operation = writes.commit if payloads else writes.commit_without_payloads
        return list(await self._writer.run(operation, commits))

    async def extend(self, extensions: Sequence[Extension]) -> list[bool]:
        return list(await self._writer.run(writes.extend, extensions))

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        return list(await self._writer.run(writes.release, holds))

    async def held(self, holds: Sequence[Hold]) -> list[bool]:
        return list(await self._reader.run(reads.held, holds))

    async def get_promise(self, id: str) -> Task:
        task = await self.get(id)
        if task.state != TaskState.ACTIVE:
            raise NotFound
        return task

    async def list_promises(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        return await self._read(reads.list_promises, (topic, after, skip, limit))

    async def delete_promise(self, id: str, nonce: str) -> str | None:
        return await self._write(writes.delete_promise, (id, nonce))

    async def delete_promises(self, topic: str) -> int:
        return len(await self._free_all("topic = ? AND state = 1", topic))

    async def list_topics(self, after: str, skip: int, limit: int) -> list[Topic]:
        return await self._read(reads.list_topics, (after, skip, limit))

    async def get_topic(self, topic: str) -> Topic:
        return _raise(await self._read(reads.get_topic, topic))

    async def get_stats(self, topic: str, now: datetime) -> TopicStats:
        return await self._read(reads.get_stats, (topic, to_ms(now)))

    async def delete_topics(self) -> int:
        return await self._delete_all("true")

    async def recover(self, now: datetime) -> list[str]:
        return list(dict.fromkeys(await self._free_all("state = 1 AND deadline < ?", to_ms(now))))

    async def expire(self, now: datetime) -> int:
        await self._write(writes.forget_topics, None)
        return await self._delete_all(
            "state = 2 AND consumed < ?", to_ms(now) - self._settings.retention // MILLISECOND
        )

    async def next_scheduled(self, topic: str) -> datetime | None:
        return _moment(await self._read(reads.next_scheduled, topic))

    async def next_deadline(self) -> datetime | None:
        return _moment(await self._read(reads.next_deadline, None))

    async def requested(self, request: str) -> list[tuple[str, Task]]:
        return await self._read(reads.requested, request)

    async def due_topics(self, topics: Sequence[str], now: datetime) -> list[str]:
        due = await self._reader.run(reads.due_topics, [(topic, to_ms(now)) for topic in topics])
        return [topic for topic, is_due in zip(topics, due, strict=True) if is_due]

    async def watch(self, heard: Heard) -> None:
        """Return, as there are no other processes."""

    async def diagnose(self, *, thorough: bool) -> list[Check]:
        if self._settings.path is None:
            return await self._read(checks.of_memory, None)
        return await asyncio.to_thread(checks.of_file, self._settings.path, thorough=thorough)

    async def backup(self) -> BinaryIO:
        if self._settings.path is None:
            raise Unsupported("the memory engine keeps nothing that could be restored: use export")
        return await self._copies.make()

    async def _delete_all(self, condition: str, *bindings: Value) -> int:
        """Delete what a condition selects now, in transactions that let others in between."""
        condition, total = f"{condition} AND seq <= {await self._write(writes.last_seq, None)}", 0
        while deleted := await self._write(writes.delete_some, (condition, bindings)):
            total += deleted
        return total

    async def _delete_finished(self, topic: str, state: int) -> int:
        """Delete the tasks of a topic in a state without an index; nobody waits while they are being found."""
        total, last = 0, 0
        while seqs := await self._read(reads.find_seqs, (topic, state, last, writes.PURGE_ROWS)):
            total += await self._write(writes.delete_finished, (seqs, topic, state))
            last = seqs[-1]
        return total

    async def _free_all(self, condition: str, *bindings: Value) -> list[str]:
        """Set what a condition selects back to pending, in transactions that let others in between; the topic of each.

        One that is not full has freed all that there was, and what has been promised since is left alone.
        """
        topics: list[str] = []
        while True:
            freed = await self._write(writes.free_some, (condition, bindings))
            topics += freed
            if len(freed) < writes.PURGE_ROWS:
                return topics


def _lock(path: str) -> int:
    """Take the lock of a queue file, which ends with the process; StartError if another process has it for long.

    The writer of a server that was killed ends a moment after it, when the disk has what it was told.
    """
    try:
        descriptor = os.open(schema.lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StartError(f"cannot open {path}: {error.strerror}") from None
    until = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                os.close(descriptor)
                raise StartError(f"{path} is held by another process") from None
            time.sleep(_LOCK_PAUSE)
        else:
            return descriptor


def _raise(result: Out | RatusError) -> Out:
    if isinstance(result, RatusError):
        raise result
    return result


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else from_ms(milliseconds)
