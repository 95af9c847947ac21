"""Inserts, upserts, reads, lists and deletes on every engine."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from ratus.engines.base import Engine
from ratus.errors import NotFound
from ratus.model import Task, Topic, raw
from ratus.times import MAX_TIME
from tests.engines.helpers import ANY_SIZE, HOUR, MS, NOW, grant, ids, insert, task, value

FULL: dict[str, Any] = {
    "state": 1,
    "nonce": "given by hand",
    "producer": "p",
    "consumer": "c",
    "produced": NOW - HOUR,
    "scheduled": NOW + MS,
    "consumed": NOW + 2 * MS,
    "deadline": NOW + HOUR,
}


async def test_everything_that_is_given_is_stored(engine: Engine) -> None:
    given = task("1", "topic", payload={"a": [1, None, "x"]}, **FULL)
    await insert(engine, given)
    assert await engine.get("1") == given


async def test_what_is_not_given_is_absent(engine: Engine) -> None:
    await insert(engine, task("1"))
    found = await engine.get("1")
    assert found == task("1")
    assert (found.producer, found.consumer, found.consumed, found.deadline, found.payload) == ("", "", None, None, None)


@pytest.mark.parametrize(
    "moment",
    [datetime(1, 1, 1, tzinfo=UTC), MAX_TIME, NOW, NOW + MS, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)],
)
async def test_times_keep_their_milliseconds_in_all_years(engine: Engine, moment: datetime) -> None:
    given = task("1", produced=moment, scheduled=moment, consumed=moment, deadline=moment)
    await insert(engine, given)
    assert await engine.get("1") == given


async def test_missing(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await engine.get("1")
    with pytest.raises(NotFound):
        await engine.get_promise("1")
    assert await engine.delete("1") == 0


async def test_insert_leaves_what_exists(engine: Engine) -> None:
    await insert(engine, task("1", producer="first"))
    assert await engine.insert([task("1", producer="second")]) == [False]
    assert await engine.insert([task("0"), task("1", producer="third"), task("2")]) == [True, False, True]
    assert (await engine.get("1")).producer == "first"
    assert ids(await engine.list_tasks("", "", 0, 10)) == ["0", "1", "2"]


async def test_ids_are_unique_over_all_topics(engine: Engine) -> None:
    await insert(engine, task("1", "a"))
    assert await engine.insert([task("1", "b")]) == [False]
    assert (await engine.get("1")).topic == "a"


async def test_insert_keeps_the_first_of_equal_ids(engine: Engine) -> None:
    batch = [task("1", producer="first"), task("2"), task("1", producer="second"), task("1", producer="third")]
    assert await engine.insert(batch) == [True, True, False, False]
    assert (await engine.get("1")).producer == "first"
    assert await engine.insert(batch) == [False] * 4


async def test_nothing_is_no_batch(engine: Engine) -> None:
    assert await engine.insert([]) == []
    assert await engine.upsert([]) == []
    assert await engine.commit([]) == []
    assert await engine.extend([]) == []
    assert await engine.release([]) == []
    assert await engine.held([]) == []


async def test_upsert_tells_what_is_new(engine: Engine) -> None:
    assert await engine.upsert([task("1", producer="first")]) == [True]
    assert await engine.upsert([task("1", producer="second")]) == [False]
    assert await engine.upsert([task("0"), task("1", producer="third"), task("2")]) == [True, False, True]
    assert (await engine.get("1")).producer == "third"


async def test_upsert_keeps_the_last_of_equal_ids(engine: Engine) -> None:
    await insert(engine, task("2"))
    batch = [task(id, producer=producer) for id, producer in [("1", "a"), ("2", "a"), ("1", "b"), ("2", "b")]]
    assert sorted(await engine.upsert(batch)) == [False, False, False, True]
    assert (await engine.get("1")).producer == "b"
    assert (await engine.get("2")).producer == "b"


async def test_upsert_replaces_all_fields(engine: Engine) -> None:
    await insert(engine, task("1", "topic", payload=1, **FULL))
    assert await engine.upsert([task("1", "other")]) == [False]
    assert await engine.get("1") == task("1", "other")
    assert [topic.name for topic in await engine.list_topics("", 0, 10)] == ["other"]


async def test_concurrent_inserts_of_one_id_store_it_once(engine: Engine) -> None:
    results = await asyncio.gather(*(engine.insert([task("1", producer=str(n)), task(f"own {n}")]) for n in range(50)))
    assert sum(first for first, _ in results) == 1
    assert all(own for _, own in results)
    [winner] = [str(n) for n, (first, _) in enumerate(results) if first]
    assert (await engine.get("1")).producer == winner


async def test_concurrent_upserts_of_one_id_create_it_once(engine: Engine) -> None:
    results = await asyncio.gather(*(engine.upsert([task("1", producer=str(n))]) for n in range(30)))
    assert sum(new for [new] in results) == 1


async def test_a_cancelled_insert_leaves_others_alone(engine: Engine) -> None:
    calls = [asyncio.create_task(engine.insert([task(str(n))])) for n in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[1::2] == [[True]] * 10
    assert await engine.insert([task("more")]) == [True]


@pytest.fixture
async def some(engine: Engine) -> list[str]:
    """Ids in the order of their UTF-8 bytes, which is not that of UTF-16."""
    names = ["!", "10", "9", "A", "a", "a b", "a/b", "ab", "é", "ﬀ", "\U0001f600", "\U0001f600x"]
    await insert(
        engine, *(task(name, "even" if index % 2 == 0 else "odd") for index, name in reversed(list(enumerate(names))))
    )
    return names


async def test_lists_are_ordered_by_the_bytes_of_the_id(engine: Engine, some: list[str]) -> None:
    assert ids(await engine.list_tasks("", "", 0, 100)) == some
    assert ids(await engine.list_tasks("even", "", 0, 100)) == some[::2]
    assert await engine.list_tasks("none", "", 0, 100) == []


@pytest.mark.parametrize("topic", ["", "even"])
async def test_pages_follow_each_other(engine: Engine, some: list[str], topic: str) -> None:
    expected = some[::2] if topic else some
    seen: list[str] = []
    while page := await engine.list_tasks(topic, seen[-1] if seen else "", 0, 5):
        seen += ids(page)
    assert seen == expected
    assert ids(await engine.list_tasks(topic, "", 3, 2)) == expected[3:5]
    assert ids(await engine.list_tasks(topic, expected[0], 1, 2)) == expected[2:4]
    assert await engine.list_tasks(topic, "", 100, 2) == []
    assert ids(await engine.list_tasks(topic, "not an id, but in between", 0, 100)) == [
        id for id in expected if id > "not"
    ]


async def test_topics_are_ordered_and_counted(engine: Engine) -> None:
    names = ["!", "10", "9", "A", "a", "a b", "é", "ﬀ", "\U0001f600"]
    await insert(engine, *(task(f"{name} {n}", name) for n in range(2) for name in reversed(names)))
    assert await engine.list_topics("", 0, 100) == [Topic(name, 2) for name in names]
    assert [topic.name for topic in await engine.list_topics("9", 0, 2)] == ["A", "a"]
    assert [topic.name for topic in await engine.list_topics("", 2, 3)] == ["9", "A", "a"]
    assert [topic.name for topic in await engine.list_topics("A", 1, 1)] == ["a b"]
    assert await engine.list_topics("\U0001f600", 0, 10) == []
    assert await engine.get_topic("é") == Topic("é", 2)


async def test_a_topic_without_tasks_is_none(engine: Engine) -> None:
    assert await engine.list_topics("", 0, 10) == []
    await insert(engine, task("1", "a"))
    with pytest.raises(NotFound):
        await engine.get_topic("b")
    assert await engine.delete("1") == 1
    assert await engine.list_topics("", 0, 10) == []
    with pytest.raises(NotFound):
        await engine.get_topic("a")


async def test_delete(engine: Engine) -> None:
    await insert(engine, task("1"), task("2"))
    assert await engine.delete("1") == 1
    assert await engine.delete("1") == 0
    assert ids(await engine.list_tasks("", "", 0, 10)) == ["2"]
    assert await engine.insert([task("1")]) == [True]


async def test_delete_tasks_of_a_topic_in_one_state_or_in_any(engine: Engine) -> None:
    await insert(engine, *(task(f"{topic}{state}", topic, state=state) for topic in "ab" for state in range(4)))
    assert await engine.delete_tasks("a", 2) == 1
    assert await engine.delete_tasks("a", 2) == 0
    assert await engine.delete_tasks("a", 0) == 1
    assert ids(await engine.list_tasks("", "", 0, 10)) == ["a1", "a3", "b0", "b1", "b2", "b3"]
    assert await engine.delete_tasks("a", None) == 2
    assert await engine.delete_tasks("a", None) == 0
    assert await engine.delete_topics() == 4
    assert await engine.delete_topics() == 0
    assert await engine.list_tasks("", "", 0, 10) == []


async def test_users_cannot_say_anything_to_the_database(engine: Engine) -> None:
    names = ["$nonce", "$$ROOT", "{$gt: ''}", "'; DROP TABLE tasks; --", "a.b", "%", "\\"]
    await insert(engine, *(task(name, name, producer=name) for name in names))
    for name in names:
        [claimed] = await engine.claim(name, [grant(name)], ANY_SIZE)
        assert (claimed.id, claimed.topic, claimed.consumer) == (name, name, name)
        assert (await engine.get_topic(name)).count == 1


async def test_many_tasks(engine: Engine) -> None:
    batch: list[Task] = [task(f"{n:05}", payload={"n": n}) for n in range(3000)]
    assert await engine.insert(batch) == [True] * 3000
    assert await engine.upsert([*batch[::10], task("new")]) == [False] * 300 + [True]
    assert value(await engine.get("02999")) == {"n": 2999}
    assert (await engine.get_topic("t")).count == 3001
    assert raw({"n": 1}) == (await engine.get("00001")).payload
