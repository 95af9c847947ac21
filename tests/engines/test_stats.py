"""Counts and stats after every transition, and expiry, on every engine."""

from ratus.config import RETENTION
from ratus.engines.base import Engine
from ratus.model import TopicStats
from tests.engines.helpers import HOUR, MS, NOW, claim, commit, grant, hold, ids, insert, task, until


async def counts(engine: Engine, topic: str = "t") -> tuple[int, int, int, int]:
    stats = await engine.get_stats(topic, NOW)
    return stats.pending, stats.active, stats.completed, stats.archived


async def test_counts_follow_every_transition(engine: Engine) -> None:
    assert await counts(engine) == (0, 0, 0, 0)
    await insert(engine, *(task(str(n)) for n in range(10)), task("other", "other"))
    assert await counts(engine) == (10, 0, 0, 0)
    claimed = await claim(engine, count=6)
    assert await counts(engine) == (4, 6, 0, 0)
    await engine.promise("9", grant(), force=False)
    assert await counts(engine) == (3, 7, 0, 0)
    await engine.commit([commit(claimed[0]), commit(claimed[1], state=3), commit(claimed[2], state=0)])
    assert await counts(engine) == (4, 4, 1, 1)
    await engine.commit([commit(claimed[3], topic="other")])
    assert await counts(engine) == (4, 3, 1, 1)
    assert await counts(engine, "other") == (1, 0, 1, 0)
    await engine.release([hold(claimed[4])])
    assert await counts(engine) == (5, 2, 1, 1)
    await engine.delete_promise(claimed[5].id, "")
    assert await counts(engine) == (6, 1, 1, 1)
    await engine.promise("0", grant(), force=True)
    assert await counts(engine) == (6, 2, 0, 1)
    await engine.upsert([task("0"), task("new")])
    assert await counts(engine) == (8, 1, 0, 1)
    await engine.upsert([task("new", "other")])
    assert await counts(engine) == (7, 1, 0, 1)
    assert await counts(engine, "other") == (2, 0, 1, 0)
    await engine.recover(NOW + 2 * HOUR)
    assert await counts(engine) == (8, 0, 0, 1)
    assert (await engine.get_topic("t")).count == 9
    await engine.delete("0")
    assert await counts(engine) == (7, 0, 0, 1)
    await engine.delete_tasks("t", 3)
    assert await counts(engine) == (7, 0, 0, 0)
    assert [(topic.name, topic.count) for topic in await engine.list_topics("", 0, 10)] == [("other", 3), ("t", 7)]
    await engine.delete_topics()
    assert await counts(engine) == (0, 0, 0, 0)


async def test_times_of_a_topic(engine: Engine) -> None:
    assert await engine.get_stats("t", NOW) == TopicStats()
    await insert(engine, task("1", scheduled=NOW - HOUR), task("2", scheduled=NOW), task("3", scheduled=NOW + MS))
    await insert(engine, task("4", scheduled=NOW + HOUR), task("5", state=1, scheduled=NOW - 2 * HOUR))
    expected = TopicStats(pending=4, active=1, due=2, oldest_due=NOW - HOUR, next_scheduled=NOW + MS)
    assert await engine.get_stats("t", NOW) == expected
    await claim(engine, count=2)
    expected = TopicStats(pending=2, active=3, due=0, oldest_due=None, next_scheduled=NOW + MS)
    assert await engine.get_stats("t", NOW) == expected
    late = await engine.get_stats("t", NOW + 2 * HOUR)
    assert (late.due, late.oldest_due, late.next_scheduled) == (2, NOW + MS, None)


async def test_expiry(engine: Engine) -> None:
    long_ago = NOW - RETENTION - MS
    await insert(
        engine,
        task("archived", state=3, consumed=long_ago),
        task("pending", consumed=long_ago),
        task("active", state=1, consumed=long_ago),
        task("never consumed", state=2),
        *(task(f"old {n}", state=2, consumed=long_ago) for n in range(3)),
    )
    if not engine.shared:  # MongoDB goes by its own clock
        await insert(engine, task("new", state=2, consumed=NOW - RETENTION + MS))
        assert await engine.expire(NOW) == 3
        assert await engine.expire(NOW) == 0
        assert await engine.delete("new") == 1
    kept = ["active", "archived", "never consumed", "pending"]

    async def expired() -> bool:
        assert await engine.expire(NOW) == 0
        return ids(await engine.list_tasks("", "", 0, 10)) == kept

    await until(expired)
