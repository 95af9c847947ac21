"""What one process hears of others on a shared collection."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.errors import StorageUnavailable
from ratus.model import Commit
from tests.engines.helpers import HOUR, MS, NOW, claim, commit, hold, insert, opened, task
from tests.mongod import Mongod

Heard = asyncio.Queue[tuple[str | None, datetime]]


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """The engine that does something."""
    async with opened(mongodb_settings) as engine:
        yield engine


@pytest.fixture
async def heard(engine: MongoDBEngine, mongodb_settings: MongoDBSettings) -> AsyncIterator[Heard]:
    """What another engine hears, which has begun to watch."""
    other = MongoDBEngine(mongodb_settings)
    await other.open()
    queue: Heard = asyncio.Queue()
    watching = asyncio.create_task(other.watch(lambda topic, scheduled: queue.put_nowait((topic, scheduled))))
    topic, _ = await queue.get()
    assert topic is None
    yield queue
    watching.cancel()
    await asyncio.wait({watching})
    await other.close()


async def next_of(heard: Heard) -> tuple[str | None, datetime]:
    return await asyncio.wait_for(heard.get(), 10)


async def test_all_that_becomes_pending_is_heard_and_nothing_else(engine: MongoDBEngine, heard: Heard) -> None:
    await insert(engine, task("1", "a", scheduled=NOW + HOUR), task("2", "a", state=3), task("3", "a", payload="x"))
    assert [await next_of(heard) for _ in range(2)] == [("a", NOW + HOUR), ("a", NOW)]
    [three] = await claim(engine, "a", 2)
    await engine.commit([commit(three)])
    await engine.commit([Commit(id="1", state=0, scheduled=NOW + MS)])
    assert await next_of(heard) == ("a", NOW + MS)
    await engine.commit([Commit(id="1", state=0, topic="b")])
    assert await next_of(heard) == ("b", NOW + MS)
    await engine.upsert([task("2", "c")])
    assert await next_of(heard) == ("c", NOW)
    [two] = await claim(engine, "c")
    await engine.release([hold(two)])
    assert await next_of(heard) == ("c", NOW)
    await claim(engine, "c")
    await engine.recover(NOW + 2 * HOUR)
    assert await next_of(heard) == ("c", NOW)
    assert heard.empty()


async def test_a_collection_that_is_dropped_is_watched_on(
    engine: MongoDBEngine, heard: Heard, mongod: Mongod, mongodb_settings: MongoDBSettings
) -> None:
    mongod.client[mongodb_settings.database].drop_collection(mongodb_settings.collection)
    assert (await next_of(heard))[0] is None
    await insert(engine, task("1"))
    assert await next_of(heard) == ("t", NOW)


async def test_a_standalone_server_cannot_tell(standalone_settings: MongoDBSettings) -> None:
    engine = MongoDBEngine(standalone_settings)
    await engine.open()
    heard: Heard = asyncio.Queue()
    await engine.watch(lambda topic, scheduled: heard.put_nowait((topic, scheduled)))
    assert heard.empty()
    await engine.close()


async def test_a_stream_that_cannot_go_on_is_unavailable(
    engine: MongoDBEngine, mongod: Mongod, mongodb_settings: MongoDBSettings
) -> None:
    mongod.fail(["aggregate"], times=2, closeConnection=True, appName=mongodb_settings.database)
    with pytest.raises(StorageUnavailable):
        await engine.watch(lambda topic, scheduled: None)
    mongod.heal()
