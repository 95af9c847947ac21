"""Commits of what this process has claimed are written without reading, and are exact whatever others do meanwhile."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.engines.mongodb.claimed import Claimed
from ratus.errors import NonceMismatch, NotFound
from ratus.model import Extension, Task, TaskState
from tests.engines.asked import Asked
from tests.engines.helpers import HOUR, NOW, claim, commit, done, grant, hold, insert, kinds, task, value
from tests.mongod import Mongod


@pytest.fixture
async def engines(mongodb_settings: MongoDBSettings) -> AsyncIterator[list[MongoDBEngine]]:
    """Two processes on one collection."""
    engines = [MongoDBEngine(mongodb_settings) for _ in range(2)]
    for engine in engines:
        await engine.open()
        await engine.indexed.wait()
    yield engines
    for engine in engines:
        await engine.close()


@pytest.mark.parametrize("forced", [False, True], ids=["with nonces", "without"])
@pytest.mark.parametrize("where", [0, 1], ids=["here", "elsewhere"])
async def test_what_happens_between_claim_and_commit_counts(
    engines: list[MongoDBEngine], where: int, forced: bool
) -> None:
    here, other = engines[0], engines[where]
    names = ["extended", "replaced", "released", "claimed anew", "deleted", "committed", "left"]
    await insert(here, *(task(name, payload=name) for name in names))
    claimed = {found.id: found for found in await claim(here, count=len(names))}
    assert list(claimed) == names
    extended = claimed["extended"]
    assert await other.extend([Extension(id="extended", nonce=extended.nonce, deadline=NOW + 5 * HOUR)]) == [True]
    same_nonce = {"state": 1, "nonce": claimed["replaced"].nonce, "consumer": "another"}
    await other.upsert([task("replaced", "elsewhere", payload="new", **same_nonce)])
    await other.release([hold(claimed["released"])])
    await other.promise("claimed anew", grant(), force=True)
    await other.delete("deleted")
    await other.commit([commit(claimed["committed"])])
    promised = await here.get("claimed anew")
    results = await here.commit([commit(id=found.id) if forced else commit(found) for found in claimed.values()])
    refused = Task if forced else NonceMismatch
    assert kinds(results) == [Task, Task, refused, refused, NotFound, refused, Task]
    assert done(results[0]).deadline == NOW + 5 * HOUR
    replaced = done(results[1])
    assert (replaced.topic, value(replaced), replaced.consumer) == ("elsewhere", "new", "another")
    for result in results:
        if isinstance(result, Task):
            assert await here.get(result.id) == result
            assert result.state == TaskState.COMPLETED
    if forced:
        assert done(results[3]).consumed == promised.consumed


@pytest.mark.parametrize("forced", [False, True], ids=["with nonces", "without"])
async def test_what_was_claimed_here_is_not_read_again(
    engines: list[MongoDBEngine], mongod: Mongod, mongodb_settings: MongoDBSettings, forced: bool
) -> None:
    here, there = engines
    await insert(here, *(task(str(n)) for n in range(6)))
    for engine, commands in ((here, ["q"]), (there, ["find", "q"])):
        found = await claim(here, count=3)
        asked = Asked(mongod, mongodb_settings)
        results = await engine.commit([commit(id=each.id) if forced else commit(each) for each in found])
        assert kinds(results) == [Task] * 3
        assert asked.commands() == commands


async def test_a_claim_hands_out_what_is_stored_when_it_is_written(
    engines: list[MongoDBEngine], mongod: Mongod, mongodb_settings: MongoDBSettings
) -> None:
    """Also when the task is replaced between the find and the write by one that is as due as it was."""
    here, there = engines
    await insert(here, *(task(str(n), payload="old") for n in range(3)))
    update = here._claims._collection.update_many

    async def replaced_before(*args: Any, **kwargs: Any) -> Any:
        await there.upsert([task("1", payload="new")])
        return await update(*args, **kwargs)

    collection: Any = here._claims._collection
    collection.update_many = replaced_before
    found = await claim(here, count=3)
    assert {each.id: value(each) for each in found} == {"0": "old", "1": "new", "2": "old"}
    for each in found:
        assert await here.get(each.id) == each


def test_what_is_remembered_is_bounded() -> None:
    claimed = Claimed()
    claimed.note(task(f"{n}", nonce="n") for n in range(30_000))
    assert claimed.get("29999", "n") is not None
    assert claimed.get("29999", "other") is None
    assert claimed.get("29999", "") is not None
    assert claimed.get("9999", "n") is None
    assert claimed.get("10000", "n") is not None
    claimed.note(task(f"large {n}", nonce="n", payload="x" * 2**20) for n in range(40))
    assert claimed.get("29999", "n") is None
    assert claimed.get("large 39", "n") is not None
    assert claimed.get("large 5", "n") is None
    claimed.forget(["large 39"])
    assert claimed.get("large 39", "n") is None
