"""Missed deadlines, and the times that the core sets its timers by, on every engine."""

from datetime import timedelta

from ratus.engines.base import Engine
from ratus.model import Extension
from tests.engines.helpers import ANY_SIZE, HOUR, MS, NOW, SECOND, commit, done, grant, hold, ids, insert, kinds, task


async def test_recover_frees_what_missed_its_deadline(engine: Engine) -> None:
    await insert(engine, *(task(f"{topic}{n}", topic) for topic in ("a", "b", "c") for n in range(3)))
    for topic in ("a", "b"):
        await engine.claim(topic, [grant(timeout=timedelta(0)), grant(timeout=MS), grant(timeout=HOUR)], ANY_SIZE)
    await insert(engine, task("forever", "c", state=1, nonce="x"), task("past", "d", state=2, deadline=NOW - HOUR))
    assert await engine.recover(NOW) == []
    assert sorted(await engine.recover(NOW + MS)) == ["a", "b"]
    assert ids(await engine.list_promises("", "", 0, 10)) == ["a1", "a2", "b1", "b2", "forever"]
    found = await engine.get("a0")
    assert (found.state, found.nonce) == (0, "")
    assert sorted(await engine.recover(NOW + 2 * HOUR)) == ["a", "b"]
    assert await engine.recover(NOW + 2 * HOUR) == []
    assert ids(await engine.list_promises("", "", 0, 10)) == ["forever"]
    assert (await engine.get("past")).state == 2


async def test_a_late_commit_or_extension_counts_until_recovery(engine: Engine) -> None:
    await insert(engine, task("1"), task("2"), task("3"))
    one, two, three = await engine.claim("t", [grant(timeout=-HOUR) for _ in range(3)], ANY_SIZE)
    assert done((await engine.commit([commit(one)]))[0]).state == 2
    assert await engine.extend([Extension(id=two.id, nonce=two.nonce, deadline=NOW + HOUR)]) == [True]
    assert await engine.recover(NOW) == ["t"]
    assert kinds(await engine.commit([commit(two)])) == [type(two)]
    assert kinds(await engine.commit([commit(three)])) != [type(three)]


async def test_recover_many(engine: Engine) -> None:
    batch = [task(f"{n:04}", f"topic {n % 7}", state=1, nonce="x", deadline=NOW) for n in range(1100)]
    await insert(engine, *batch)
    assert sorted(await engine.recover(NOW + MS)) == [f"topic {n}" for n in range(7)]
    assert await engine.list_promises("", "", 0, 10) == []


async def test_next_scheduled(engine: Engine) -> None:
    assert await engine.next_scheduled("t") is None
    await insert(engine, task("1", scheduled=NOW + 2 * HOUR), task("2", scheduled=NOW + HOUR + MS), task("3", "other"))
    assert await engine.next_scheduled("t") == NOW + HOUR + MS
    await engine.promise("2", grant(), force=False)
    assert await engine.next_scheduled("t") == NOW + 2 * HOUR
    await engine.promise("1", grant(), force=False)
    assert await engine.next_scheduled("t") is None


async def test_next_deadline(engine: Engine) -> None:
    await insert(
        engine, task("1"), task("2"), task("3", state=1), task("4", deadline=NOW), task("5", state=2, deadline=NOW)
    )
    assert await engine.next_deadline() is None
    one, two = await engine.claim("t", [grant(timeout=HOUR), grant(timeout=SECOND + MS)], ANY_SIZE)
    assert await engine.next_deadline() == NOW + SECOND + MS
    await engine.commit([commit(two)])
    assert await engine.next_deadline() == NOW + HOUR
    await engine.release([hold(one)])
    assert await engine.next_deadline() is None
