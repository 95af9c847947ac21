"""Calls whose connection is lost, or whose outcome is unknown, on the MongoDB engine."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.errors import StorageUnavailable
from ratus.model import Task
from tests.engines.helpers import (
    HOUR,
    NOW,
    UNKNOWN,
    Fail,
    claim,
    commit,
    grant,
    hold,
    ids,
    insert,
    kinds,
    opened,
    states,
    task,
    until,
    until_pending,
)
from tests.mongod import Mongod

RETRIED = {
    "writeConcernError": {"code": 6, "errmsg": "applied, but another host is not to be reached"},
    "errorLabels": ["RetryableWriteError"],
}


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """The engine on a replica set."""
    async with opened(mongodb_settings) as engine:
        yield engine


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
