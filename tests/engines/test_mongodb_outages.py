"""The MongoDB engine while its server is down, comes back, falls silent or is slow."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.errors import StartError, StorageUnavailable
from tests.conftest import need_mongod
from tests.engines.helpers import (
    NOW,
    SECOND,
    Fail,
    claim,
    commit,
    grant,
    ids,
    insert,
    opened,
    states,
    task,
    until,
)
from tests.mongod import Mongod
from tests.reliability.links import Link, Way


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """The engine on a replica set."""
    async with opened(mongodb_settings) as engine:
        yield engine


@pytest.fixture
def own_mongod() -> Iterator[Mongod]:
    """A standalone server of this test, not started yet."""
    need_mongod()
    server = Mongod()
    yield server
    server.close()


@pytest.mark.parametrize(
    "uri", ["", "http://127.0.0.1", "mongodb://", "mongodb://a:b", "mongodb://a:99999", "mongodb://u:@b@c"]
)
async def test_a_malformed_uri_is_a_start_that_cannot_work(uri: str) -> None:
    with pytest.raises(StartError, match=r"^MongoDB: .+"):
        await MongoDBEngine(MongoDBSettings(uri=uri)).open()


@pytest.mark.parametrize("name", ["", "a b", "a.b", "$"])
async def test_so_is_a_bad_name(name: str) -> None:
    with pytest.raises(StartError):
        await MongoDBEngine(MongoDBSettings(database=name)).open()


async def test_starts_while_the_database_is_down_and_recovers(own_mongod: Mongod) -> None:
    engine = MongoDBEngine(
        MongoDBSettings(uri=f"{own_mongod.uri}?serverSelectionTimeoutMS=200&heartbeatFrequencyMS=500")
    )
    await engine.open()
    for call in (engine.check(), engine.insert([task("1")]), engine.get("1"), claim(engine), claim(engine, count=2)):
        with pytest.raises(StorageUnavailable):
            await call
    for results in (engine.commit([commit(task("1"))]), engine.commit([commit(task("1")), commit(task("2"))])):
        with pytest.raises(StorageUnavailable):
            await results
    own_mongod.start()
    async with asyncio.timeout(30):
        await engine.indexed.wait()
    await engine.check()
    await insert(engine, task("1"), task("2"))
    own_mongod.kill()
    with pytest.raises(StorageUnavailable):
        await engine.check()
    with pytest.raises(StorageUnavailable):
        await engine.insert([task("3")])
    own_mongod.start()

    async def back() -> bool:
        try:
            return await states(engine) == {"1": 0, "2": 0}
        except StorageUnavailable:
            return False

    await until(back)
    assert ids(await claim(engine, count=3)) == ["1", "2"]
    await engine.close()


async def test_opening_does_not_wait_for_the_database(own_mongod: Mongod) -> None:
    engine = MongoDBEngine(MongoDBSettings(uri=f"{own_mongod.uri}?serverSelectionTimeoutMS=3600000"))
    await asyncio.wait_for(engine.open(), 30)
    await asyncio.wait_for(engine.close(), 30)


async def test_closing_while_the_database_is_down(own_mongod: Mongod) -> None:
    engine = MongoDBEngine(MongoDBSettings(uri=f"{own_mongod.uri}?serverSelectionTimeoutMS=200"))
    await engine.open()
    call = asyncio.create_task(engine.insert([task("1")]))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(StorageUnavailable):
        await call


async def test_the_default_time_to_fail_is_short(own_mongod: Mongod) -> None:
    engine = MongoDBEngine(MongoDBSettings(uri=own_mongod.uri))
    await engine.open()
    with pytest.raises(StorageUnavailable):
        await asyncio.wait_for(engine.check(), 20)  # the driver's own default is 30
    await engine.close()


async def test_a_cancelled_call_costs_no_connection_and_is_applied(engine: MongoDBEngine, fail: Fail) -> None:
    await insert(engine, task("1"), task("2"))
    fail("findAndModify", blockConnection=True, blockTimeMS=200)
    call = asyncio.create_task(engine.promise("1", grant(timeout=SECOND), force=False))
    for _ in range(3):  # it is under way by then, and an answer takes more turns of the loop
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    async def promised() -> bool:
        return (await engine.get("1")).state == 1

    await until(promised)


async def test_requests_that_vanish_while_the_server_is_heard_are_given_up(mongod: Mongod) -> None:
    link = Link(mongod.port, random.Random(1))
    await link.open()
    hasty = "directConnection=true&connectTimeoutMS=500&heartbeatFrequencyMS=500"
    engine = MongoDBEngine(MongoDBSettings(uri=f"mongodb://{link.address}/?{hasty}", database=f"test_{link.port}"))
    await engine.open()
    await engine.indexed.wait()
    link.vanish(Way.ASKED)
    async with asyncio.timeout(60):
        with pytest.raises(StorageUnavailable):
            await engine.insert([task("1")])
    link.heal()

    async def back() -> bool:
        try:
            return bool(await engine.upsert([task("1")]))
        except StorageUnavailable:
            return False

    await until(back)
    await engine.delete_topics()
    await engine.close()
    await link.close()


async def test_long_work_is_waited_for_longer_than_an_answer(mongodb_settings: MongoDBSettings, fail: Fail) -> None:
    engine = MongoDBEngine(replace(mongodb_settings, uri=f"{mongodb_settings.uri}&socketTimeoutMS=1000"))
    await engine.open()
    await engine.indexed.wait()
    await insert(engine, task("1"))
    slow = {"blockConnection": True, "blockTimeMS": 3000}
    fail("aggregate", "count", "update", times=100, **slow)
    assert (await engine.get_stats("t", NOW)).pending == 1
    assert [topic.count for topic in await engine.list_topics("", 0, 10)] == [1]
    assert await engine.delete_promises("t") == 0
    fail("find", times=100, **slow)
    with pytest.raises(StorageUnavailable):
        await engine.get("1")
    await engine.close()


async def test_an_outage_that_meets_what_a_cancelled_call_has_begun_is_no_fault(
    engine: MongoDBEngine, fail: Fail, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what other tests have left
    caplog.clear()
    fail("find", times=2, errorCode=11600)
    call = asyncio.create_task(engine.get("1"))
    await asyncio.sleep(0)  # so that it begins
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await engine.close()  # waits for what was begun
    gc.collect()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
