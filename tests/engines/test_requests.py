"""Claims that can be repeated, and topics with due tasks, on every engine."""

from ratus.engines.base import Engine
from tests.engines.helpers import ANY_SIZE, HOUR, MS, NOW, claim, commit, grant, hold, insert, task


async def test_what_a_request_was_granted_is_found_by_how_it_begins(engine: Engine) -> None:
    await insert(engine, *(task(str(n), scheduled=NOW - n * MS, payload=n) for n in range(6)))
    [single] = await engine.claim("t", [grant(request="a.x")], ANY_SIZE)
    batch = await engine.claim("t", [grant(request="a.y"), grant(request="b.x"), grant()], ANY_SIZE)
    named = await engine.promise("0", grant(request="a.x"), force=False)
    assert await engine.requested("a.") == [("a.x", single), ("a.y", batch[0]), ("a.x", named)]
    assert await engine.requested("b.x") == [("b.x", batch[1])]
    assert await engine.requested("c") == []


async def test_a_request_ends_with_its_promise(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(6)))
    one, two, three, four, five, six = await engine.claim("t", [grant(request="a") for _ in range(6)], ANY_SIZE)
    await engine.commit([commit(one)])
    await engine.release([hold(two)])
    await engine.upsert([task(three.id, state=1, nonce="x")])
    await engine.promise(four.id, grant(), force=True)
    await engine.delete(five.id)
    assert await engine.requested("a") == [("a", six)]
    assert len(await claim(engine, count=6)) == 1
    assert await engine.requested("a") == [("a", six)]
    await engine.recover(NOW + 2 * HOUR)
    assert await engine.requested("a") == []


async def test_due_topics(engine: Engine) -> None:
    await insert(engine, task("1", "a"), task("2", "a"), task("3", "b", scheduled=NOW + MS), task("4", "c", state=2))
    await insert(engine, task("5", "d"), task("6", "not asked for"))
    topics = ["a", "b", "c", "d", "none"]
    assert sorted(await engine.due_topics(topics, NOW)) == ["a", "d"]
    assert sorted(await engine.due_topics(topics, NOW + MS)) == ["a", "b", "d"]
    await claim(engine, "d")
    assert await engine.due_topics(topics, NOW) == ["a"]
    assert await engine.due_topics([], NOW) == []
