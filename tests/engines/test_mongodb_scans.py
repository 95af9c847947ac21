"""What the server does for a call, as its profiler tells: which plan, and how many keys and documents it looks at."""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from tests.engines.asked import Asked
from tests.engines.helpers import HOUR, MS, NOW, claim, commit, insert, opened, task
from tests.mongod import Mongod

TASKS = 400  # a topic
TOPICS = 20
NUMBER = "RECORD_STORE_FAST_COUNT"  # of all tasks, which is known


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """An engine with tasks in all states in many topics."""
    async with opened(mongodb_settings) as engine:
        states = {"nonce": "n", "consumed": NOW, "deadline": NOW + HOUR}
        for topic in range(TOPICS):
            for state in range(4):
                given = states if state else {}
                await insert(
                    engine,
                    *(
                        task(
                            f"{topic}-{state}-{n}", f"t{topic:02}", state=state, scheduled=NOW + (n - 50) * MS, **given
                        )
                        for n in range(TASKS // 4)
                    ),
                )
        yield engine


class Profile:
    """What the profiler has noted of our own commands."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def total(self, what: str) -> int:
        return sum(entry.get(what, 0) for entry in self.entries)

    @property
    def plans(self) -> set[str]:
        return {entry["planSummary"] for entry in self.entries if "planSummary" in entry}


@pytest.fixture
def profiled(mongod: Mongod, mongodb_settings: MongoDBSettings) -> Any:
    """Note what is done within."""

    @contextmanager
    def profiled() -> Iterator[Profile]:
        profile, asked = Profile(), Asked(mongod, mongodb_settings)
        try:
            yield profile
        finally:
            profile.entries = asked.entries()
        assert profile.entries
        assert "COLLSCAN" not in profile.plans

    return profiled


async def test_counts_read_neither_what_is_completed_nor_what_is_archived(engine: MongoDBEngine, profiled: Any) -> None:
    with profiled() as profile:
        assert (await engine.get_topic("t07")).count == TASKS
    assert profile.plans == {"COUNT_SCAN { topic: 1, produced: 1 }"}
    with profiled() as profile:
        stats = await engine.get_stats("t07", NOW)
    assert (stats.pending, stats.active, stats.completed, stats.archived) == (100, 100, 100, 100)
    assert (stats.due, stats.oldest_due, stats.next_scheduled) == (51, NOW - 50 * MS, NOW + MS)
    # The indexes of the original do not hold the state, so that pending and active tasks are read.
    assert profile.total("docsExamined") <= 100 + 100 + 2
    assert profile.total("keysExamined") <= TASKS + 3 * 100 + 10


async def test_a_page_of_topics_costs_a_look_at_every_name_and_the_tasks_of_the_page(
    engine: MongoDBEngine, profiled: Any
) -> None:
    with profiled() as profile:
        topics = await engine.list_topics("t03", 1, 2)
    assert [(topic.name, topic.count) for topic in topics] == [("t05", TASKS), ("t06", TASKS)]
    assert profile.plans == {"DISTINCT_SCAN { topic: 1, produced: 1 }", "COUNT_SCAN { topic: 1, produced: 1 }"}
    assert profile.total("docsExamined") == 0
    assert profile.total("keysExamined") <= TOPICS + 2 * TASKS + 10


async def test_a_page_of_all_tasks_is_all_that_is_read(engine: MongoDBEngine, profiled: Any) -> None:
    with profiled() as profile:
        page = await engine.list_tasks("", "7-1", 0, 11)
    assert len(page) == 11
    assert profile.total("docsExamined") <= 12
    assert profile.total("keysExamined") <= 12


async def test_a_page_of_a_large_topic_is_found_by_id(engine: MongoDBEngine, profiled: Any) -> None:
    with profiled() as profile:
        page = await engine.list_tasks("t07", "7-1", 0, 11)
    assert [found.id for found in page] == sorted(f"7-1-{n}" for n in range(TASKS // 4))[:11]
    assert profile.plans == {NUMBER, "IXSCAN { topic: 1, produced: 1 }", "IXSCAN { _id: 1 }"}
    bound = math.isqrt(11 * TOPICS * TASKS)
    assert profile.total("docsExamined") <= 12
    assert profile.total("keysExamined") <= bound + 2 + 12


async def test_the_tasks_of_a_small_topic_are_sorted(engine: MongoDBEngine, profiled: Any) -> None:
    await insert(engine, *(task(f"{n}", "small") for n in range(50)))
    with profiled() as profile:
        page = await engine.list_tasks("small", "2", 1, 3)
    assert [found.id for found in page] == ["21", "22", "23"]
    assert profile.plans == {NUMBER, "IXSCAN { topic: 1, produced: 1 }"}
    assert profile.total("docsExamined") <= 50


async def test_lists_do_without_the_index(
    engine: MongoDBEngine, mongodb_settings: MongoDBSettings, mongod: Mongod
) -> None:
    mongod.client[mongodb_settings.database][mongodb_settings.collection].drop_index("topic_1_produced_1")
    for _ in range(2):
        assert [found.id for found in await engine.list_tasks("t07", "7-0", 1, 2)] == ["7-0-1", "7-0-10"]


async def test_claims_and_commits_look_at_their_tasks_only(engine: MongoDBEngine, profiled: Any) -> None:
    with profiled() as profile:
        claimed = await claim(engine, "t07", 10)
    assert len(claimed) == 10
    assert [entry["op"] for entry in profile.entries] == ["query", "update"]
    assert profile.plans == {"IXSCAN { topic: 1, scheduled: 1 }", "IXSCAN { _id: 1 }"}
    assert profile.total("docsExamined") == 20
    assert profile.total("keysExamined") <= 31
    with profiled() as profile:
        await engine.commit([commit(found) for found in claimed])
    assert [entry["op"] for entry in profile.entries] == ["update"]
    assert profile.total("docsExamined") == 10


@pytest.mark.usefixtures("no_looks")
async def test_claims_do_not_pass_again_what_was_claimed(engine: MongoDBEngine, profiled: Any) -> None:
    first = await claim(engine, "t07", 30)
    with profiled() as profile:
        second = await claim(engine, "t07", 10)
    assert max(found.scheduled for found in first) < min(found.scheduled for found in second)
    [find] = [entry for entry in profile.entries if entry["op"] == "query"]
    assert find["command"]["filter"]["scheduled"]["$gte"] == first[-1].scheduled.replace(tzinfo=None)


async def test_deletes_come_in_pieces(engine: MongoDBEngine, profiled: Any) -> None:
    await insert(engine, *(task(f"many-{n}", "many") for n in range(4_500)))
    with profiled() as profile:
        assert await engine.delete_tasks("many", None) == 4_500
    assert [entry["ndeleted"] for entry in profile.entries if entry["op"] == "remove"] == [2_000, 2_000, 500]
    assert await engine.delete_topics() == TOPICS * TASKS
