"""The engine: composes its parts, gathers calls, and keeps cancellation and the driver's errors away from them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, BinaryIO, Final, TypeVar

from pymongo.errors import PyMongoError

from ratus.config import MongoDBSettings
from ratus.ending import cancel
from ratus.engines.base import Abandoned, Heard
from ratus.engines.mongodb import changes, checks, documents, errors, indexes
from ratus.engines.mongodb.claimed import Claimed
from ratus.engines.mongodb.claims import Claims
from ratus.engines.mongodb.client import connect, unhurried
from ratus.engines.mongodb.commits import Commits
from ratus.engines.mongodb.counts import Counts
from ratus.engines.mongodb.doubts import Doubts
from ratus.engines.mongodb.fallback import Fallbacks
from ratus.engines.mongodb.floors import Floors
from ratus.engines.mongodb.puts import Puts
from ratus.engines.mongodb.queries import Queries
from ratus.engines.mongodb.releases import Releases
from ratus.engines.mongodb.turns import Turns
from ratus.errors import RatusError, StorageUnavailable, Unsupported
from ratus.gather import Gatherer
from ratus.model import Check, Commit, Extension, Grant, Hold, Task, Topic, TopicStats

T = TypeVar("T")
Entry = TypeVar("Entry")

_FIRST_DELAY: Final = 0.5  # seconds between attempts to create the indexes; doubled after each
_MAX_DELAY: Final = 30.0

_log = logging.getLogger(__name__)


class MongoDBEngine:
    """Keeps the tasks in a collection of MongoDB, which an original Ratus may use at the same time."""

    name = "mongodb"
    shared = True

    def __init__(self, settings: MongoDBSettings) -> None:
        self._settings = settings
        self.fallbacks = Fallbacks(settings)
        self.indexed = asyncio.Event()  # set once the indexes are known to be there
        self._tasks: set[asyncio.Task[Any]] = set()
        self._indexing: asyncio.Task[None] | None = None
        self._request_indexing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Get ready; StartError for settings that can never work. Does not wait for the database."""
        self._collection = connect(self._settings)
        self._client = self._collection.database.client
        self._floors = Floors()
        self._doubts = Doubts(self._collection, self._floors.lower_all)
        self._counts = Counts(self._collection)
        self._queries = Queries(self._collection, self._counts)
        claimed = Claimed()
        self._claims = Claims(self._collection, self.fallbacks, self._doubts, claimed, self._floors)
        self._turns = Turns(self._claims)
        self._releases = Releases(self._collection, self.fallbacks, claimed)
        puts = Puts(self._collection, self.fallbacks)
        self._inserts = Gatherer(_translated(self._floors.noting(puts.insert)))
        self._upserts = Gatherer(_translated(self._floors.noting(puts.upsert)))
        self._commits = Gatherer(
            _translated(self._floors.noting_commits(Commits(self._collection, self.fallbacks, claimed).apply))
        )
        if not self._settings.disable_index_creation:
            self._indexing = asyncio.create_task(self._index())

    async def close(self) -> None:
        """Finish what was begun and let go of everything."""
        await cancel(*filter(None, (self._indexing, self._request_indexing)))
        for gatherer in (self._inserts, self._upserts, self._commits):
            await gatherer.close()
        await self._turns.close()
        await asyncio.sleep(0)  # in which what was claimed for nobody begins to be given back
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._claims.due.close()
        await self._doubts.close()
        await self._client.close()

    async def check(self) -> None:
        """Return if there is a primary that answers, else raise StorageUnavailable."""
        await self._run(self._client.admin.command("ping"))

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        """Store the tasks whose ids are new; gathered with those of concurrent calls."""
        for task in tasks:
            documents.check_size(task.payload)
        return list(await self._inserts.submit(tasks))

    async def upsert(self, tasks: Sequence[Task]) -> list[bool]:
        """Store or replace the tasks; gathered with those of concurrent calls."""
        for task in tasks:
            documents.check_size(task.payload)
        return list(await self._upserts.submit(tasks))

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        """Apply commits; gathered with those of concurrent calls. StorageUnavailable can be that of an entry."""
        for commit in commits:
            assert not isinstance(commit.payload, bytes)
            documents.check_size(commit.payload)
        results = list(await self._commits.submit([(commit, payloads) for commit in commits]))
        if results and all(isinstance(result, StorageUnavailable) for result in results):
            assert isinstance(results[0], StorageUnavailable)
            raise results[0]
        return results

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
        """Give due tasks of a topic to the grants; gathered, and not stopped for a cancelled caller."""
        with errors.translated():
            return list(await self._turns.claim(topic, grants, max_bytes, abandoned)) if grants else []

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        """Give the named task to the grant; NotFound, TaskNotPending."""
        return await self._run(self._claims.promise(id, grant, force=force))

    async def extend(self, extensions: Sequence[Extension]) -> list[bool]:
        """Set the deadlines of promises that are held."""
        return await self._run(self._releases.extend(extensions))

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        """Set tasks that are held back to pending."""
        return await self._run(self._floors.freeing(self._releases.release(holds), lambda topics: topics))

    async def held(self, holds: Sequence[Hold]) -> list[bool]:
        """Tell which promises are still held."""
        return await self._run(self._releases.held(holds))

    async def get(self, id: str) -> Task:
        """The task; NotFound."""
        return await self._run(self._queries.get(id))

    async def list_tasks(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        """Tasks in order of id."""
        return await self._run(self._queries.list_tasks(topic, after, skip, limit))

    async def delete(self, id: str) -> int:
        """Delete a task."""
        return await self._run(self._queries.delete(id))

    async def delete_tasks(self, topic: str, state: int | None) -> int:
        """Delete the tasks of a topic, in one state or in any."""
        return await self._run(self._queries.delete_tasks(topic, state))

    async def get_promise(self, id: str) -> Task:
        """The task if it is active; NotFound."""
        return await self._run(self._queries.get_promise(id))

    async def list_promises(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        """Active tasks in order of id, without payloads."""
        return await self._run(self._queries.list_promises(topic, after, skip, limit))

    async def delete_promise(self, id: str, nonce: str) -> str | None:
        """Set an active task back to pending."""
        return await self._run(self._floors.freeing(self._releases.delete_promise(id, nonce), lambda topic: [topic]))

    async def delete_promises(self, topic: str) -> int:
        """Set all active tasks of a topic back to pending."""
        return await self._run_unhurried(self._floors.freeing(self._releases.delete_promises(topic), lambda _: [topic]))

    async def list_topics(self, after: str, skip: int, limit: int) -> list[Topic]:
        """Topics in order of name."""
        return await self._run_unhurried(self._queries.list_topics(after, skip, limit))

    async def get_topic(self, topic: str) -> Topic:
        """The topic; NotFound if it has no tasks."""
        return await self._run_unhurried(self._queries.get_topic(topic))

    async def get_stats(self, topic: str, now: datetime) -> TopicStats:
        """Counts and times of a topic."""
        return await self._run_unhurried(self._queries.get_stats(topic, now))

    async def delete_topics(self) -> int:
        """Delete all tasks."""
        return await self._run(self._queries.delete_topics())

    async def recover(self, now: datetime) -> list[str]:
        """Set active tasks whose deadline has passed back to pending."""
        return await self._run(self._floors.freeing(self._releases.recover(now), lambda topics: topics))

    async def expire(self, now: datetime) -> int:
        """Nothing to do: the TTL index deletes completed tasks."""
        return 0

    async def next_scheduled(self, topic: str) -> datetime | None:
        """The earliest `scheduled` of the pending tasks of a topic."""
        return await self._run(self._claims.due.next_scheduled(topic))

    async def next_deadline(self) -> datetime | None:
        """The earliest deadline of all active tasks."""
        return await self._run(self._releases.next_deadline())

    async def requested(self, request: str) -> list[tuple[str, Task]]:
        """Active tasks by the beginning of their requests; the first call makes the index for it, in its own time."""
        if self._request_indexing is None and not self._settings.disable_index_creation:
            self._request_indexing = asyncio.create_task(self._index_requests())
        return await self._run(self._queries.requested(request))

    async def due_topics(self, topics: Sequence[str], now: datetime) -> list[str]:
        """Those of the topics that have a due task."""
        return await self._run(self._queries.due_topics(topics, now))

    async def watch(self, heard: Heard) -> None:
        """Tell what becomes pending, through this process too, on a replica set or a sharded cluster."""

        def hear(topic: str | None, scheduled: datetime) -> None:
            if topic is None:
                self._floors.lower_all()
            else:
                self._floors.lower(topic, scheduled)
            heard(topic, scheduled)

        with errors.translated():
            await changes.watch(self._collection, hear)

    async def diagnose(self, *, thorough: bool) -> list[Check]:
        """The server, its clock, the indexes and change streams."""
        return await self._run(checks.diagnose(self._collection, self._settings.retention))

    async def backup(self) -> BinaryIO:
        """Not with this engine."""
        raise Unsupported("MongoDB has backups of its own: use mongodump or snapshots of its disks")

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        # In a task of its own: a cancelled operation would cost its connection, and be applied all the same.
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with errors.translated():
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                task.add_done_callback(_abandoned)
                raise

    async def _run_unhurried(self, work: Coroutine[Any, Any, T]) -> T:
        with unhurried():
            return await self._run(work)

    async def _index(self) -> None:
        right = await _persistently(lambda: indexes.ensure(self._collection, self._settings.retention))
        self._claims.due.hint = indexes.CLAIM_INDEX if indexes.CLAIM_INDEX in right else None
        self._counts.indexed = right >= indexes.COUNTED
        self.indexed.set()

    async def _index_requests(self) -> None:
        await _persistently(lambda: indexes.ensure_requests(self._collection))


def _abandoned(task: asyncio.Task[Any]) -> None:
    """Nobody waits for this any more, so that only a fault of ours is worth a word."""
    error = None if task.cancelled() else task.exception()
    expected = isinstance(error, RatusError) or (isinstance(error, PyMongoError) and errors.translate(error))
    if error is not None and not expected:
        _log.error("what a cancelled call has begun has failed", exc_info=error)


async def _persistently(create: Callable[[], Awaitable[T]]) -> T:
    """Create indexes, however long the database takes to appear."""
    delay = _FIRST_DELAY
    while True:
        try:
            with unhurried():
                return await create()
        except PyMongoError as error:
            _log.warning("MongoDB: indexes not created yet: %s", errors.line(error))
        await asyncio.sleep(delay)
        delay = min(2 * delay, _MAX_DELAY)


def _translated(
    run: Callable[[Sequence[Entry]], Awaitable[list[T]]],
) -> Callable[[Sequence[Entry]], Coroutine[Any, Any, list[T]]]:
    async def translated(entries: Sequence[Entry]) -> list[T]:
        with errors.translated():
            return await run(entries)

    return translated
