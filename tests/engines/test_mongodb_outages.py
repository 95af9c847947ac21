"""The MongoDB engine while its server is down, comes back, loses connections and leaves outcomes unknown."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.errors import StartError, StorageUnavailable
from ratus.model import Task
from tests.conftest import need_mongod
from tests.engines.helpers import HOUR, NOW, SECOND, claim, commit, grant, hold, ids, insert, kinds, task, until
from tests.mongod import Mongod
from tests.reliability.links import Link, Way

Fail = Callable[..., None]

UNKNOWN = {"writeConcernError": {"code": 64, "errmsg": "applied, but nobody knows whether it lasts"}}
RETRIED = {
    "writeConcernError": {"code": 6, "errmsg": "applied, but another host is not to be reached"},
    "errorLabels": ["RetryableWriteError"],
}


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """The engine on a replica set."""
    engine = MongoDBEngine(mongodb_settings)
    await engine.open()
    await engine.indexed.wait()
    yield engine
    await engine.close()


@pytest.fixture
def fail(mongod: Mongod, mongodb_settings: MongoDBSettings) -> Iterator[Fail]:
    """Make commands of the engine fail."""

    def fail(*commands: str, times: int = 1, skip: int = 0, **data: Any) -> None:
        mongod.fail(commands, times=times, skip=skip, appName=mongodb_settings.database, **data)

    yield fail
    mongod.heal()


@pytest.fixture
def own_mongod() -> Iterator[Mongod]:
    """A standalone server of this test, not started yet."""
    need_mongod()
    server = Mongod()
    yield server
    server.close()


async def states(engine: MongoDBEngine) -> dict[str, int]:
    return {found.id: found.state for found in await engine.list_tasks("", "", 0, 1000)}


async def until_pending(engine: MongoDBEngine, count: int) -> None:
    async def pending() -> bool:
        return (await engine.get_stats("t", NOW)).pending == count

    await until(pending)


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


@pytest.mark.parametrize("loss", [{"closeConnection": True}, RETRIED], ids=["before", "after"])
@pytest.mark.parametrize("size", [1, 3])
async def test_an_insert_that_the_driver_repeats_is_no_duplicate_of_itself(
    engine: MongoDBEngine, fail: Fail, loss: dict[str, Any], size: int
) -> None:
    fail("insert", **loss)
    assert await engine.insert([task(str(n)) for n in range(size)]) == [True] * size
    assert len(await states(engine)) == size


@pytest.mark.parametrize("size", [1, 3])
async def test_an_insert_of_unknown_outcome_is_unavailable(engine: MongoDBEngine, fail: Fail, size: int) -> None:
    tasks = [task(str(n)) for n in range(size)]
    await insert(engine, tasks[-1])
    fail("insert", **UNKNOWN)
    with pytest.raises(StorageUnavailable):
        await engine.insert([task("x"), *tasks[:-1]])
    assert await engine.insert([task("x"), *tasks]) == [False] * (size + 1)
    fail("insert", times=2, closeConnection=True)
    with pytest.raises(StorageUnavailable):
        await engine.insert([task("y")])
    assert await engine.insert([task("y")]) == [True]


async def test_upserts_survive_a_lost_connection(engine: MongoDBEngine, fail: Fail) -> None:
    for loss in ({"closeConnection": True}, RETRIED):
        fail("update", **loss)
        name = f"{len(await states(engine))}"
        assert await engine.upsert([task(name), task(f"{name} more")]) == [True, True]
    fail("update", **UNKNOWN)
    with pytest.raises(StorageUnavailable):
        await engine.upsert([task("x")])
    assert await engine.upsert([task("x")]) == [False]


@pytest.mark.parametrize("loss", [{"closeConnection": True}, RETRIED], ids=["before", "after"])
async def test_single_claims_and_commits_survive_a_lost_connection(
    engine: MongoDBEngine, fail: Fail, loss: dict[str, Any]
) -> None:
    await insert(engine, task("1"), task("2"), task("3"))
    fail("findAndModify", **loss)
    [one] = await claim(engine)
    fail("findAndModify", **loss)
    two = await engine.promise("2", grant(), force=False)
    assert await states(engine) == {"1": 1, "2": 1, "3": 0}
    fail("findAndModify", **loss)
    assert kinds(await engine.commit([commit(one)])) == [Task]
    fail("findAndModify", **loss)
    assert await engine.delete_promise("2", two.nonce) == "t"
    assert await states(engine) == {"1": 2, "2": 0, "3": 0}


async def test_a_single_claim_of_unknown_outcome_is_released(engine: MongoDBEngine, fail: Fail) -> None:
    await insert(engine, task("1"), task("2"))
    fail("findAndModify", **UNKNOWN)
    with pytest.raises(StorageUnavailable):
        await claim(engine)
    fail("findAndModify", **UNKNOWN)
    with pytest.raises(StorageUnavailable):
        await engine.promise("2", grant(), force=False)
    await until_pending(engine, 2)
    assert ids(await claim(engine, count=3)) == ["1", "2"]


async def test_a_claim_of_unknown_outcome_is_left_for_its_repeat(engine: MongoDBEngine, fail: Fail) -> None:
    await insert(engine, task("1"), task("2"))
    fail("findAndModify", **UNKNOWN)
    with pytest.raises(StorageUnavailable):
        await engine.claim("t", [grant(request="r")], 2**20)
    fail("findAndModify", **UNKNOWN)
    with pytest.raises(StorageUnavailable):
        await engine.claim("t", [grant()], 2**20)
    [(_, repeated)] = await engine.requested("r")

    async def released() -> bool:
        return (await engine.get_stats("t", NOW)).pending == 1

    await until(released)
    assert await engine.held([hold(repeated)]) == [True]


@pytest.mark.parametrize(
    ("command", "loss"),
    [
        ("update", {"closeConnection": True}),
        ("update", UNKNOWN),
        ("update", {"errorCode": 262}),
        ("find", {"closeConnection": True}),
    ],
    ids=["before", "after", "error", "find"],
)
async def test_batched_claims_lose_and_double_nothing(
    engine: MongoDBEngine, fail: Fail, command: str, loss: dict[str, Any]
) -> None:
    await insert(engine, *(task(f"{n:02}") for n in range(20)))
    fail(command, times=2, **loss)
    with pytest.raises(StorageUnavailable):
        await claim(engine, count=5)
    fail("none")
    await until_pending(engine, 20)
    claimed = await claim(engine, count=30)
    assert ids(claimed) == [f"{n:02}" for n in range(20)]
    assert await engine.held([hold(found) for found in claimed]) == [True] * 20


async def test_a_batched_claim_whose_tasks_cannot_be_read_back_is_released(
    engine: MongoDBEngine, mongod: Mongod, fail: Fail
) -> None:
    await insert(engine, *(task(f"{n:02}", payload="x" * 200_000) for n in range(20)))  # too large to be repeated
    fail("find", skip=1, closeConnection=True)  # the one that finds them passes
    with pytest.raises(StorageUnavailable):
        await claim(engine, count=5)
    fail("none")
    await until_pending(engine, 20)
    assert sum(found.consumed is not None for found in await engine.list_tasks("", "", 0, 20)) == 5


@pytest.mark.parametrize(
    "loss", [{"closeConnection": True}, UNKNOWN, {"errorCode": 262}], ids=["before", "after", "error"]
)
async def test_batched_commits_are_settled(engine: MongoDBEngine, fail: Fail, loss: dict[str, Any]) -> None:
    await insert(engine, *(task(str(n)) for n in range(6)))
    claimed = await claim(engine, count=6)
    fail("update", times=2, **loss)
    results = await engine.commit([commit(found, payload=found.id) for found in claimed[:4]])
    assert kinds(results) == [Task] * 4
    assert set((await states(engine)).values()) == {1, 2}
    assert [found.payload for found in await engine.list_tasks("", "", 0, 4)] == [
        found.payload for found in results if isinstance(found, Task)
    ]
    fail("update", times=100, closeConnection=True)
    with pytest.raises(StorageUnavailable):
        await engine.commit([commit(found) for found in claimed[4:]])
    fail("none")
    assert kinds(await engine.commit([commit(found) for found in claimed[4:]])) == [Task] * 2


async def test_releases_extensions_and_recovery_are_repeated(engine: MongoDBEngine, fail: Fail) -> None:
    await insert(engine, *(task(str(n)) for n in range(6)))
    claimed = await claim(engine, count=6)
    fail("update", closeConnection=True)
    assert await engine.release([hold(found) for found in claimed[:2]]) == ["t", "t"]
    fail("update", **UNKNOWN)
    assert await engine.release([hold(found) for found in claimed[2:4]]) == ["t", "t"]
    fail("update", closeConnection=True)
    assert await engine.recover(NOW + 2 * HOUR) == ["t"]
    assert set((await states(engine)).values()) == {0}


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
    engine = MongoDBEngine(replace(mongodb_settings, uri=f"{mongodb_settings.uri}&socketTimeoutMS=300"))
    await engine.open()
    await engine.indexed.wait()
    await insert(engine, task("1"))
    slow = {"blockConnection": True, "blockTimeMS": 1000}
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
    fail("find", times=2, errorCode=11600)
    call = asyncio.create_task(engine.get("1"))
    await asyncio.sleep(0)  # so that it begins
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await engine.close()  # waits for what was begun
    gc.collect()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
