"""Short forms for what the suite says often."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ratus import rules, times
from ratus.config import MongoDBSettings
from ratus.engines.base import Engine
from ratus.engines.mongodb import MongoDBEngine
from ratus.errors import RatusError
from ratus.model import Commit, Grant, Hold, Task, raw

NOW = times.now()  # not long ago, or else MongoDB would delete what was completed then
MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
ANY_SIZE = 2**40

UNKNOWN = {"writeConcernError": {"code": 64, "errmsg": "applied, but nobody knows whether it lasts"}}
Fail = Callable[..., None]  # makes commands of an engine fail


def task(id: str, topic: str = "t", *, payload: Any = None, **fields: Any) -> Task:
    """A pending task that is due now, unless told otherwise."""
    given: dict[str, Any] = {"state": 0, "nonce": "", "produced": NOW - HOUR, "scheduled": NOW} | fields
    return Task(id=id, topic=topic, payload=None if payload is None else raw(payload), **given)


def grant(consumer: str = "", now: datetime = NOW, timeout: timedelta = HOUR, request: str = "") -> Grant:
    """What a promise sets that is made now."""
    return Grant(rules.new_nonce(), consumer, now, now + timeout, request)


def grants(count: int, now: datetime = NOW) -> list[Grant]:
    """So many grants, each with its own values."""
    return [grant(f"consumer {index}", now, HOUR + index * SECOND) for index in range(count)]


def commit(task: Task | Hold | None = None, **fields: Any) -> Commit:
    """A commit that completes the task with its nonce, unless told otherwise."""
    given: dict[str, Any] = {"id": task.id, "nonce": task.nonce} if task is not None else {}
    if "payload" in fields:
        fields["payload"] = raw(fields["payload"])
    return Commit(**(given | {"state": 2} | fields))


def hold(task: Task) -> Hold:
    """The promise on a task."""
    return Hold(task.id, task.nonce)


def ids(tasks: Iterable[Task]) -> list[str]:
    """The ids of tasks, in order."""
    return [task.id for task in tasks]


def kinds(results: Iterable[Task | RatusError]) -> list[type]:
    """What each entry of a batch of commits has come to."""
    return [type(result) for result in results]


def done(result: Task | RatusError) -> Task:
    """The task of an entry that was applied."""
    assert isinstance(result, Task), result
    return result


def value(task: Task) -> Any:
    """The decoded payload."""
    return None if task.payload is None else msgspec.json.decode(task.payload)


async def insert(engine: Engine, *tasks: Task) -> Sequence[Task]:
    """Insert tasks that are new."""
    assert all(await engine.insert(tasks))
    return tasks


async def claim(engine: Engine, topic: str = "t", count: int = 1, now: datetime = NOW) -> list[Task]:
    """Claim up to so many tasks."""
    return await engine.claim(topic, grants(count, now), ANY_SIZE)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for what the database does by itself or in the background."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 (nobody would tell)
            await asyncio.sleep(0.02)


async def states(engine: Engine) -> dict[str, int]:
    """The states of all tasks, by their ids."""
    return {found.id: found.state for found in await engine.list_tasks("", "", 0, 1000)}


async def until_pending(engine: Engine, count: int) -> None:
    """Wait until so many tasks are pending."""

    async def pending() -> bool:
        return (await engine.get_stats("t", NOW)).pending == count

    await until(pending)


@asynccontextmanager
async def opened(settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """An engine with its indexes."""
    engine = MongoDBEngine(settings)
    await engine.open()
    try:
        if not settings.disable_index_creation:
            await engine.indexed.wait()
        yield engine
    finally:
        await engine.close()
