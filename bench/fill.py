"""Many tasks at once, past the network: random IDs, all states mixed."""

import asyncio
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import pymongo
from msgspec import Raw

from bench.contenders import say
from bench.load.calls import PAYLOAD
from bench.setup import Queue
from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine, documents
from ratus.engines.sqlite import schema, writes
from ratus.model import Task, TaskState

BATCH: Final = 5_000
TOPIC: Final = "bench"  # its pending tasks are due later
BACKLOG: Final = "backlog"  # and those of this one are due already
DAY: Final = 86_400.0  # seconds
_FILL_KIB: Final = 4 * 2**20  # of SQLite's cache; memory is taken as it is needed


def mixed(count: int, topics: Sequence[str]) -> Iterator[Task]:
    """Tasks in all states, spread over the topics."""
    states = list(TaskState)
    for number in range(count):
        yield _task(states[number % len(states)], topics[number // len(states) % len(topics)])


def due(count: int) -> Iterator[Task]:
    """Pending tasks that come before all that are inserted afterwards."""
    return (_task(TaskState.PENDING, BACKLOG) for _ in range(count))


def _task(state: TaskState, topic: str) -> Task:
    # All this is long enough ago that no deadline is missed and nothing expires while it is measured.
    now, before, after = time.time(), random.uniform(60, DAY), random.uniform(DAY, 2 * DAY)
    scheduled = now - before if topic == BACKLOG or state != TaskState.PENDING else now + after
    task = Task(
        id=secrets.token_hex(8),
        topic=topic,
        state=state,
        nonce="",
        produced=_moment(now - DAY),
        scheduled=_moment(scheduled),
        payload=Raw(PAYLOAD),
    )
    if state != TaskState.PENDING:
        task.consumer, task.consumed = "bench", _moment(now - before)
        task.deadline = _moment(now + after)
    if state == TaskState.ACTIVE:
        task.nonce = secrets.token_hex(8)
    return task


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def fill(queue: Queue, tasks: Iterator[Task]) -> None:
    """Store tasks in a queue that no server has open."""
    begin = time.perf_counter()
    count = _fill_mongodb(queue, tasks) if queue.mongod else _fill_sqlite(queue, tasks)
    seconds = time.perf_counter() - begin
    say(f"{count:,} tasks stored in {seconds:.0f} s, {count / seconds:,.0f} a second")


def _fill_sqlite(queue: Queue, tasks: Iterator[Task]) -> int:
    connection = schema.connect(str(queue.path))
    # Without a journal, and each page written once, in the end.
    connection.execute(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = {-_FILL_KIB}")
    connection.execute("BEGIN IMMEDIATE")
    count = sum(sum(writes.insert(connection, batch)) for batch in _batches(tasks))
    connection.execute("COMMIT")
    connection.close()
    return count


def _fill_mongodb(queue: Queue, tasks: Iterator[Task]) -> int:
    assert queue.mongod is not None
    with pymongo.MongoClient(queue.mongod.uri, w=1, journal=False) as client:
        collection = client[queue.name]["tasks"]
        count = 0
        for batch in _batches(tasks):
            encoded = [documents.encode(task) for task in batch]
            count += len(collection.insert_many(encoded, ordered=False).inserted_ids)
    asyncio.run(_index(queue))
    return count


async def _index(queue: Queue) -> None:
    assert queue.mongod is not None
    engine = MongoDBEngine(MongoDBSettings(uri=queue.mongod.uri, database=queue.name))
    await engine.open()
    await engine.indexed.wait()
    await engine.close()


def _batches(tasks: Iterator[Task]) -> Iterator[list[Task]]:
    while batch := [task for _, task in zip(range(BATCH), tasks, strict=False)]:
        yield batch
