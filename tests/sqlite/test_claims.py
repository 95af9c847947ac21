"""Claims that share a transaction."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ratus.config import SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine
from ratus.model import Task, TaskState
from tests.engines.helpers import ANY_SIZE, HOUR, NOW, grants, ids, insert, task


@pytest.fixture(params=[False, True], ids=["thread", "process"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SQLiteEngine]:
    engine = SQLiteEngine(SQLiteSettings(path=str(tmp_path / "q.db")), apart=request.param)
    await engine.open()
    yield engine
    await engine.close()


async def claims(engine: SQLiteEngine, *wanted: tuple[str, int], max_bytes: int = ANY_SIZE) -> list[list[str]]:
    """The IDs for claims at the same time, each of a topic and so many tasks, in their order."""
    results = await asyncio.gather(*(engine.claim(topic, grants(count), max_bytes) for topic, count in wanted))
    return [ids(tasks) for tasks in results]


async def test_they_are_served_in_their_order(engine: SQLiteEngine) -> None:
    await insert(engine, *(task(f"{topic}{number}", topic) for number in range(4) for topic in "ab"))
    assert await claims(engine, ("a", 1), ("b", 2), ("a", 2), ("c", 1), ("a", 3), ("a", 1), ("b", 1)) == [
        ["a0"],
        ["b0", "b1"],
        ["a1", "a2"],
        [],
        ["a3"],
        [],
        ["b2"],
    ]


async def test_what_a_cancelled_caller_would_have_got_is_not_lost(engine: SQLiteEngine) -> None:
    await insert(engine, *(task(str(number)) for number in range(3)))
    abandoned: list[Task] = []
    callers = [asyncio.create_task(engine.claim("t", grants(1), ANY_SIZE, abandoned.extend)) for _ in range(3)]
    await asyncio.sleep(0)  # let them be passed on
    callers[1].cancel()
    first, cancelled, last = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert (await engine.get("1")).state == TaskState.ACTIVE
    assert [ids(tasks) for tasks in (first, abandoned, last) if not isinstance(tasks, BaseException)] == [
        ["0"],
        ["1"],
        ["2"],
    ]


async def test_each_has_its_own_promises(engine: SQLiteEngine) -> None:
    await insert(engine, *(task(str(number)) for number in range(3)))
    given = [grants(2), grants(1)]
    results = await asyncio.gather(*(engine.claim("t", each, ANY_SIZE) for each in given))
    assert [[one.nonce for one in tasks] for tasks in results] == [[one.nonce for one in each] for each in given]
    for one in [one for tasks in results for one in tasks]:
        assert await engine.get(one.id) == one


async def test_nothing_is_due(engine: SQLiteEngine) -> None:
    await insert(engine, task("later", scheduled=NOW + HOUR))
    assert await claims(engine, ("t", 1), ("t", 5), ("t", 1)) == [[], [], []]


async def test_payloads_that_leave_no_room_for_others_do_not_leave_them_without(engine: SQLiteEngine) -> None:
    await insert(engine, *(task(str(number), payload="x" * 600) for number in range(4)))
    assert await claims(engine, ("t", 1), ("t", 2), ("t", 1), ("t", 1), max_bytes=1000) == [["0"], ["1"], ["2"], ["3"]]
