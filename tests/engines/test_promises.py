"""Claims, promises, extensions, releases and recovery on every engine."""

import asyncio

import msgspec
import pytest

from ratus.engines.base import Engine
from ratus.errors import NotFound, TaskNotPending
from ratus.model import Extension, Hold, Task
from tests.engines.helpers import (
    ANY_SIZE,
    HOUR,
    MS,
    NOW,
    SECOND,
    claim,
    commit,
    grant,
    grants,
    hold,
    ids,
    insert,
    kinds,
    task,
)


async def test_a_claim_sets_what_the_grant_says_and_nothing_else(engine: Engine) -> None:
    given = task("1", payload={"a": 1}, producer="p", consumer="before", scheduled=NOW - SECOND)
    await insert(engine, given)
    promise = grant("c")
    [claimed] = await engine.claim("t", [promise], ANY_SIZE)
    assert claimed == msgspec.structs.replace(
        given, state=1, nonce=promise.nonce, consumer="c", consumed=NOW, deadline=NOW + HOUR
    )
    assert await engine.get("1") == claimed
    assert await engine.get_promise("1") == claimed


async def test_a_batched_claim_gives_each_task_its_own_grant_in_order(engine: Engine) -> None:
    await insert(engine, *(task(str(n), payload=n, scheduled=NOW - n * SECOND) for n in range(6)))
    given = grants(4)
    claimed = await engine.claim("t", given, ANY_SIZE)
    assert ids(claimed) == ["5", "4", "3", "2"]
    for found, promise in zip(claimed, given, strict=True):
        assert (found.nonce, found.consumer, found.consumed, found.deadline) == (
            promise.nonce,
            promise.consumer,
            promise.consumed,
            promise.deadline,
        )
        assert await engine.get(found.id) == found
    assert ids(await claim(engine, count=4)) == ["1", "0"]
    assert await claim(engine, count=4) == []
    assert await claim(engine) == []


async def test_nothing_is_claimed_before_its_time_to_the_millisecond(engine: Engine) -> None:
    await insert(engine, task("1", scheduled=NOW + MS), task("2", scheduled=NOW + 2 * MS))
    assert await claim(engine, now=NOW) == []
    assert await claim(engine, count=3, now=NOW) == []
    assert ids(await claim(engine, count=3, now=NOW + MS)) == ["1"]
    assert ids(await claim(engine, now=NOW + 2 * MS)) == ["2"]


async def test_ties_go_in_the_order_of_insertion(engine: Engine) -> None:
    names = ["c", "a", "d", "b", "e"]
    await insert(engine, *(task(name) for name in names[:3]))
    for name in names[3:]:
        await insert(engine, task(name))
    assert ids(await claim(engine)) == ["c"]
    assert ids(await claim(engine, count=10)) == ["a", "d", "b", "e"]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_claim_never_crosses_topics_nor_states(engine: Engine, count: int) -> None:
    await insert(engine, task("other", "other"), *(task(f"{state}", state=state) for state in (1, 2, 3)))
    assert await claim(engine, count=count) == []
    assert ids(await claim(engine, "other", count)) == ["other"]


async def test_a_claim_stays_within_its_bytes_but_one_task_always_fits(engine: Engine) -> None:
    await insert(engine, *(task(str(n), payload="x" * 998, scheduled=NOW + n * MS) for n in range(6)))
    later = NOW + SECOND
    assert ids(await engine.claim("t", grants(3, later), 10)) == ["0"]
    assert ids(await engine.claim("t", grants(6, later), 1999)) == ["1"]
    assert ids(await engine.claim("t", grants(6, later), 3000)) == ["2", "3", "4"]
    assert ids(await engine.claim("t", grants(1, later), 0)) == ["5"]


async def test_bytes_are_counted_as_json(engine: Engine) -> None:
    payload = list(range(200))  # takes far more as BSON
    size = len(msgspec.json.encode(payload))
    await insert(engine, *(task(str(n), payload=payload) for n in range(5)), task("none"))
    assert len(await engine.claim("t", grants(5), 4 * size)) == 4
    assert ids(await engine.claim("t", grants(5), size)) == ["4", "none"]


@pytest.mark.parametrize("size", [1, 7])
async def test_concurrent_claimers_get_every_task_once(engine: Engine, size: int) -> None:
    await insert(engine, *(task(str(n), scheduled=NOW + n * MS) for n in range(100)))
    seen: list[str] = []

    async def claimer() -> None:
        while claimed := await claim(engine, count=size, now=NOW + HOUR):
            seen.extend(ids(claimed))
            assert [found.scheduled for found in claimed] == sorted(found.scheduled for found in claimed)

    await asyncio.gather(*(claimer() for _ in range(64)))
    assert len(seen) == 100
    assert set(seen) == {str(n) for n in range(100)}
    nonces = {found.nonce for found in await engine.list_tasks("t", "", 0, 300)}
    assert len(nonces) == 100


async def test_more_than_fits_into_one_write(engine: Engine) -> None:
    await insert(engine, *(task(f"{n:04}", scheduled=NOW + n * MS) for n in range(700)))
    claimed = await claim(engine, count=600, now=NOW + HOUR)
    assert ids(claimed) == [f"{n:04}" for n in range(600)]
    assert kinds(await engine.commit([commit(found) for found in claimed])) == [Task] * 600
    assert (await engine.get_stats("t", NOW)).completed == 600


async def test_promise_takes_a_pending_task_due_or_not(engine: Engine) -> None:
    await insert(engine, task("1", scheduled=NOW + HOUR, payload=1))
    promise = grant("c")
    claimed = await engine.promise("1", promise, force=False)
    assert (claimed.state, claimed.nonce, claimed.consumer) == (1, promise.nonce, "c")
    assert (claimed.consumed, claimed.deadline, claimed.scheduled) == (NOW, NOW + HOUR, NOW + HOUR)
    assert await engine.get("1") == claimed


@pytest.mark.parametrize("state", [1, 2, 3])
async def test_promise_refuses_what_is_not_pending_unless_forced(engine: Engine, state: int) -> None:
    before = task("1", state=state, nonce="old")
    await insert(engine, before)
    with pytest.raises(TaskNotPending):
        await engine.promise("1", grant(), force=False)
    assert await engine.get("1") == before
    promise = grant()
    assert (await engine.promise("1", promise, force=True)).nonce == promise.nonce
    assert kinds(await engine.commit([commit(before)])) != kinds(
        await engine.commit([commit(Hold("1", promise.nonce))])
    )


@pytest.mark.parametrize("force", [False, True])
async def test_promise_on_nothing(engine: Engine, force: bool) -> None:
    with pytest.raises(NotFound):
        await engine.promise("1", grant(), force=force)
    assert await engine.list_tasks("", "", 0, 10) == []


async def test_concurrent_promises_on_one_task_let_one_win(engine: Engine) -> None:
    await insert(engine, task("1"))
    calls = [engine.promise("1", grant(str(n)), force=False) for n in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, TaskNotPending) for result in results) == 19
    [winner] = [result for result in results if not isinstance(result, BaseException)]
    assert await engine.get("1") == winner


async def test_promises_are_listed_as_tasks_are(engine: Engine) -> None:
    await insert(engine, *(task(str(n), "a" if n < 4 else "b", payload=n) for n in range(8)))
    await claim(engine, "a", 3)
    await claim(engine, "b", 2)
    assert ids(await engine.list_promises("", "", 0, 10)) == ["0", "1", "2", "4", "5"]
    assert ids(await engine.list_promises("a", "", 0, 10)) == ["0", "1", "2"]
    assert ids(await engine.list_promises("", "1", 1, 2)) == ["4", "5"]
    [first] = await engine.list_promises("a", "", 0, 1)
    assert (first.consumer, first.deadline) == ("consumer 0", NOW + HOUR)
    with pytest.raises(NotFound):
        await engine.get_promise("3")


async def test_delete_promise(engine: Engine) -> None:
    await insert(engine, task("1"), task("2"))
    [claimed] = await claim(engine)
    assert await engine.delete_promise("1", "another nonce") is None
    assert await engine.get("1") == claimed
    assert await engine.delete_promise("1", claimed.nonce) == "t"
    found = await engine.get("1")
    assert (found.state, found.nonce) == (0, "")
    assert await engine.delete_promise("1", claimed.nonce) is None
    assert await engine.delete_promise("1", "") is None
    await engine.promise("2", grant(), force=False)
    assert await engine.delete_promise("2", "") == "t"
    assert await engine.delete_promise("3", "") is None
    assert ids(await claim(engine, count=3)) == ["1", "2"]


async def test_delete_promises_of_a_topic(engine: Engine) -> None:
    await insert(engine, *(task(f"{topic}{n}", topic) for topic in "ab" for n in range(4)))
    for topic in "ab":
        await claim(engine, topic, 3)
    assert await engine.delete_promises("a") == 3
    assert await engine.delete_promises("a") == 0
    assert {(found.state, found.nonce) for found in await engine.list_tasks("a", "", 0, 10)} == {(0, "")}
    assert len(await engine.list_promises("b", "", 0, 10)) == 3


async def test_what_is_promised_meanwhile_is_left_alone(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(4)))
    await claim(engine, count=4)
    deleted, claimed = await asyncio.gather(engine.delete_promises("t"), claim(engine, count=4))
    assert deleted == 4
    assert await engine.held([hold(promised) for promised in claimed]) == [True] * len(claimed)


async def test_extend_moves_the_deadline_of_what_is_held(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(4)), task("5", nonce="x"))
    one, two, three = await claim(engine, count=3)
    await engine.commit([commit(three)])
    later = NOW + 2 * HOUR
    entries = [
        Extension(id=one.id, nonce=one.nonce, deadline=later),
        Extension(id=two.id, nonce=one.nonce, deadline=later),
        Extension(id=three.id, nonce=three.nonce, deadline=later),
        Extension(id="3", nonce="x", deadline=later),
        Extension(id="4", nonce="x", deadline=later),
        Extension(id="5", nonce="x", deadline=later),
        Extension(id=one.id, nonce=one.nonce, deadline=later + MS),
    ]
    assert await engine.extend(entries) == [True, False, False, False, False, False, True]
    assert await engine.get("0") == msgspec.structs.replace(one, deadline=later + MS)
    assert await engine.get("1") == two
    assert await engine.extend(entries[:1]) == [True]
    assert (await engine.get("0")).deadline == later
    assert kinds(await engine.commit([commit(one)])) == [type(one)]


async def test_release_frees_what_is_held_and_names_the_topic(engine: Engine) -> None:
    await insert(engine, *(task(str(n), "a") for n in range(3)), task("3", "b"), task("4", "b", nonce="x"))
    one, two, three = await claim(engine, "a", 3)
    [four] = await claim(engine, "b")
    await engine.commit([commit(two)])
    holds = [hold(one), hold(two), Hold(three.id, "other"), hold(four), hold(one), Hold("4", "x"), Hold("no", "x")]
    assert await engine.release(holds) == ["a", None, None, "b", None, None, None]
    found = await engine.get(one.id)
    assert (found.state, found.nonce) == (0, "")
    assert await engine.get(three.id) == three
    assert await engine.release([hold(three)]) == ["a"]
    assert await engine.release([hold(three)]) == [None]


async def test_concurrent_releases_free_once(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(30)))
    holds = [hold(found) for found in await claim(engine, count=30)]
    calls = [engine.release(holds[n : n + 10]) for n in range(0, 30, 5)]
    results = [topic for answer in await asyncio.gather(*calls) for topic in answer]
    assert results.count("t") == 30
    assert (await engine.get_stats("t", NOW)).pending == 30


async def test_held(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(4)), task("5", nonce="x"))
    one, two, three = await claim(engine, count=3)
    await engine.commit([commit(two)])
    await engine.release([hold(three)])
    holds = [hold(one), hold(two), hold(three), Hold(one.id, two.nonce), Hold("5", "x"), Hold("no", "x"), hold(one)]
    assert await engine.held(holds) == [True, False, False, False, False, False, True]
