"""Claims that come at the same time share commands, also those on different topics, and wait for no others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.engines.mongodb.claims import Claims, Outcome, Wanted
from ratus.engines.mongodb.turns import Turns
from ratus.errors import StorageUnavailable
from ratus.model import Task, TaskState
from tests.engines.asked import Asked
from tests.engines.helpers import (
    ANY_SIZE,
    HOUR,
    NOW,
    UNKNOWN,
    Fail,
    claim,
    grants,
    hold,
    ids,
    insert,
    opened,
    states,
    task,
    until,
)
from tests.mongod import Mongod

TOPICS = [f"topic {number}" for number in range(8)]


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """On a replica set, with three due tasks in each topic."""
    async with opened(mongodb_settings) as engine:
        await insert(engine, *(task(f"{topic}: {number}", topic) for topic in TOPICS for number in range(3)))
        yield engine


async def claim_all(engine: MongoDBEngine, count: int = 1) -> list[list[Task]]:
    return await asyncio.gather(*(claim(engine, topic, count) for topic in TOPICS))


async def test_topics_share_two_commands(
    engine: MongoDBEngine, mongod: Mongod, mongodb_settings: MongoDBSettings
) -> None:
    asked = Asked(mongod, mongodb_settings)
    claimed = await claim_all(engine)
    assert [ids(tasks) for tasks in claimed] == [[f"{topic}: 0"] for topic in TOPICS]
    assert sorted(asked.commands()) == ["aggregate", "q"]  # a read, and what an update consists of
    for tasks in claimed:
        assert await engine.held([hold(found) for found in tasks]) == [True]
        assert await engine.get(tasks[0].id) == tasks[0]


async def test_a_topic_whose_task_others_took_meanwhile_gets_the_next(
    engine: MongoDBEngine, mongodb_settings: MongoDBSettings
) -> None:
    async with opened(mongodb_settings) as other:
        collection: Any = engine._claims._collection
        update = collection.update_many

        async def overtaken(*args: Any, **kwargs: Any) -> Any:
            collection.update_many = update
            assert ids(await claim(other, TOPICS[3])) == ["topic 3: 0"]
            await other.upsert([task("topic 5: 0", TOPICS[4], payload="moved", scheduled=NOW - HOUR)])
            return await update(*args, **kwargs)

        collection.update_many = overtaken
        claimed = await claim_all(engine, 2)
    for topic, tasks in zip(TOPICS, claimed, strict=True):
        first = 1 if topic in (TOPICS[3], TOPICS[5]) else 0
        assert ids(tasks) == [f"{topic}: {number}" for number in (first, first + 1)]
        assert [await engine.get(found.id) for found in tasks] == tasks
    assert (await engine.get("topic 5: 0")).state == TaskState.PENDING


@pytest.mark.usefixtures("no_looks")
async def test_a_server_that_cannot_unite_topics_is_asked_for_each(
    engine: MongoDBEngine, mongod: Mongod, mongodb_settings: MongoDBSettings, fail: Fail
) -> None:
    fail("aggregate", errorCode=40324)  # no such stage
    assert [ids(tasks) for tasks in await claim_all(engine)] == [[f"{topic}: 0"] for topic in TOPICS]
    asked = Asked(mongod, mongodb_settings)
    assert [ids(tasks) for tasks in await claim_all(engine)] == [[f"{topic}: 1"] for topic in TOPICS]
    assert asked.commands() == ["findAndModify"] * len(TOPICS)


@pytest.mark.usefixtures("no_looks")
async def test_large_tasks_are_claimed_topic_by_topic(
    engine: MongoDBEngine, mongod: Mongod, mongodb_settings: MongoDBSettings
) -> None:
    large = [task(f"{topic}: large", topic, payload="x" * 200_000, scheduled=NOW - HOUR) for topic in TOPICS]
    await insert(engine, *large)
    for expected in ("large", "0", "1", "2"):
        assert [ids(tasks) for tasks in await claim_all(engine)] == [[f"{topic}: {expected}"] for topic in TOPICS]
    await insert(engine, *(task(f"{topic}: small", topic) for topic in TOPICS))
    asked = Asked(mongod, mongodb_settings)
    assert [ids(tasks) for tasks in await claim_all(engine)] == [[f"{topic}: small"] for topic in TOPICS]
    assert sorted(asked.commands()) == ["aggregate", "q"]  # small ones are claimed together again


async def test_what_is_below_the_floor_is_found_before_nothing_is_due(
    engine: MongoDBEngine, mongodb_settings: MongoDBSettings
) -> None:
    for together in (["t"], ["t", "u"]):
        assert await asyncio.gather(*(claim(engine, topic) for topic in together)) == [[] for _ in together]
        async with opened(mongodb_settings) as other:
            await insert(other, *(task(f"{topic}: early", topic, scheduled=NOW - HOUR) for topic in together))
        await insert(engine, *(task(f"{topic}: late", topic) for topic in together))
        claimed = await asyncio.gather(*(claim(engine, topic) for topic in together for _ in range(2)))
        found = {id for tasks in claimed for id in ids(tasks)}
        assert found == {f"{topic}: {name}" for topic in together for name in ("early", "late")}
        await engine.delete_topics()


@pytest.mark.parametrize(
    ("command", "loss"),
    [
        ("aggregate", {"closeConnection": True}),
        ("aggregate", {"errorCode": 11600}),
        ("update", {"closeConnection": True}),
        ("update", UNKNOWN),
        ("update", {"errorCode": 262}),
    ],
)
async def test_a_loss_concerns_all_and_loses_nothing(
    engine: MongoDBEngine, fail: Fail, command: str, loss: dict[str, Any]
) -> None:
    fail(command, times=2, **loss)
    outcomes = await asyncio.gather(*(claim(engine, topic) for topic in TOPICS), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
    fail("none")

    async def all_pending() -> bool:
        return set((await states(engine)).values()) == {0}

    await until(all_pending)
    assert [ids(tasks) for tasks in await claim_all(engine, 5)] == [
        [f"{topic}: {number}" for number in range(3)] for topic in TOPICS
    ]


class Held(Claims):
    """Claims that come to their ends when they are told to."""

    def __init__(self) -> None:
        self.begun: list[list[tuple[str, int]]] = []
        self._ends: list[asyncio.Event] = []

    async def claim(self, wanted: Sequence[Wanted]) -> list[Outcome | BaseException]:
        self.begun.append([(each.topic, len(each.grants)) for each in wanted])
        self._ends.append(asyncio.Event())
        await self._ends[-1].wait()
        return [
            Outcome([task(each.topic, nonce=grant.nonce) for grant in each.grants]) if each.topic else ValueError()
            for each in wanted
        ]

    def end(self, index: int) -> None:
        self._ends[index].set()


@pytest.fixture
async def held() -> Held:
    return Held()


@pytest.fixture
async def turns(held: Held) -> Turns:
    return Turns(held)


def begin(turns: Turns, topic: str, count: int = 1, abandoned: list[Task] | None = None) -> "asyncio.Task[Any]":
    take = None if abandoned is None else abandoned.extend
    return asyncio.create_task(turns.claim(topic, grants(count), ANY_SIZE, take))


async def pause() -> None:
    """Let everything come as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_few_share_a_turn_and_many_have_their_own(turns: Turns, held: Held) -> None:
    calls = [begin(turns, "a"), begin(turns, "b", 2), begin(turns, "c", 100), begin(turns, "a", 3)]
    await pause()
    assert held.begun == [[("c", 100)], [("a", 4), ("b", 2)]]
    calls += [begin(turns, "a"), begin(turns, "d"), begin(turns, "c"), begin(turns, "e", 20)]
    await pause()
    assert held.begun[2:] == [[("e", 20)]]
    held.end(1)
    await pause()
    assert held.begun[3:] == [[("d", 1), ("a", 1)]]
    for index in (0, 2, 3):
        held.end(index)
    await pause()
    assert held.begun[4:] == [[("c", 1)]]
    held.end(4)
    results = await asyncio.gather(*calls)
    assert [len(tasks) for tasks in results] == [1, 2, 100, 3, 1, 1, 1, 20]
    await turns.close()


async def test_enough_topics_do_not_wait_for_others(turns: Turns, held: Held) -> None:
    calls = [begin(turns, "first")]
    await pause()
    calls += [begin(turns, f"topic {number}") for number in range(40)]
    await pause()
    assert [len(wanted) for wanted in held.begun] == [1, 32]
    held.end(0)
    await pause()
    assert [len(wanted) for wanted in held.begun] == [1, 32, 8]
    held.end(1)
    held.end(2)
    await asyncio.gather(*calls)
    await turns.close()


async def test_what_waits_for_one_topic_is_bounded(turns: Turns, held: Held) -> None:
    calls = [begin(turns, "a", 400) for _ in range(3)]
    await pause()
    assert held.begun == [[("a", 800)]]
    held.end(0)
    await pause()
    assert held.begun[1:] == [[("a", 400)]]
    held.end(1)
    await asyncio.gather(*calls)


async def test_cancelled_callers(turns: Turns, held: Held) -> None:
    abandoned: list[Task] = []
    calls = [begin(turns, "a", 1, abandoned), begin(turns, "b", 1, abandoned)]
    await pause()
    calls.append(begin(turns, "b", 1, abandoned))
    await pause()
    for call in calls[1:]:  # one under way, one that waits
        call.cancel()
    await pause()
    held.end(0)
    await turns.close()
    assert held.begun == [[("a", 1), ("b", 1)]]
    assert ids(await calls[0]) == ["a"]
    assert ids(abandoned) == ["b"]


async def test_a_fault_concerns_its_topic(turns: Turns, held: Held) -> None:
    calls = [begin(turns, ""), begin(turns, "a")]
    await pause()
    held.end(0)
    fault, tasks = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(fault, ValueError)
    assert isinstance(tasks, list)
    assert ids(tasks) == ["a"]
