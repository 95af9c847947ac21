"""Commits on every engine: exact for each entry, singly, in batches and at the same time."""

import asyncio
from collections import Counter

import msgspec
import pytest

from ratus.engines.base import Engine
from ratus.errors import NonceMismatch, NotFound
from ratus.model import Commit, Hold, Task, raw
from tests.engines.helpers import HOUR, MS, NOW, claim, commit, done, grant, hold, ids, insert, kinds, task


async def test_a_commit_sets_state_and_clears_the_nonce(engine: Engine) -> None:
    await insert(engine, task("1", payload={"a": 1}, producer="p"))
    [claimed] = await claim(engine)
    [result] = await engine.commit([commit(claimed)])
    assert result == msgspec.structs.replace(claimed, state=2, nonce="")
    assert await engine.get("1") == result


async def test_a_commit_changes_what_is_given(engine: Engine) -> None:
    await insert(engine, task("1", payload={"a": 1}), task("2", payload={"a": 1}))
    claimed = await claim(engine, count=2)
    changes = {"state": 0, "topic": "other", "scheduled": NOW + HOUR, "payload": ["new"]}
    results = await engine.commit([commit(found, **changes) for found in claimed])
    for found, result in zip(claimed, results, strict=True):
        assert result == msgspec.structs.replace(
            found, state=0, nonce="", topic="other", scheduled=NOW + HOUR, payload=raw(["new"])
        )
        assert await engine.get(found.id) == result
    assert [topic.name for topic in await engine.list_topics("", 0, 10)] == ["other"]
    assert ids(await claim(engine, "other", 3, NOW + HOUR)) == ["1", "2"]


@pytest.mark.parametrize("state", [0, 1, 2, 3])
async def test_all_states_can_be_committed(engine: Engine, state: int) -> None:
    await insert(engine, task("1"), task("2"))
    for found in await claim(engine, count=2):
        assert done((await engine.commit([commit(found, state=state)]))[0]).state == state
    assert {found.state for found in await engine.list_tasks("", "", 0, 10)} == {state}


async def test_without_a_nonce_a_commit_always_applies(engine: Engine) -> None:
    await insert(engine, task("1"), task("2", state=3))
    [claimed] = await claim(engine)
    results = await engine.commit([Commit(id="1", state=2), Commit(id="2", state=0), Commit(id="3", state=2)])
    assert kinds(results) == [Task, Task, NotFound]
    assert [done(result).state for result in results[:2]] == [2, 0]
    assert kinds(await engine.commit([commit(claimed)])) == [NonceMismatch]


async def test_many_commits_without_nonces(engine: Engine) -> None:
    await insert(engine, *(task(str(n), payload=n) for n in range(30)))
    claimed = {found.id for found in await claim(engine, count=20)}
    calls = [engine.commit([Commit(id=str(n), state=3)]) for n in range(31)]
    results = [result for answer in await asyncio.gather(*calls) for result in answer]
    assert kinds(results) == [Task] * 30 + [NotFound]
    for n in range(30):
        found = await engine.get(str(n))
        assert found == results[n]
        assert (found.state, found.nonce, found.consumed is not None) == (3, "", str(n) in claimed)


async def test_stale_nonces_and_missing_ids_fail_alone(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(4)), task("given", nonce="by hand"))
    one, two, three = await claim(engine, count=3)
    await engine.promise("1", grant(), force=True)
    results = await engine.commit(
        [commit(one), commit(two), commit(Hold("none", "x")), commit(Hold("3", "x")), commit(three)]
    )
    assert kinds(results) == [Task, NonceMismatch, NotFound, NonceMismatch, Task]
    states = {found.id: found.state for found in await engine.list_tasks("", "", 0, 10)}
    assert states == {"0": 2, "1": 1, "2": 2, "3": 0, "given": 0}
    assert kinds(await engine.commit([commit(Hold("given", "by hand"))])) == [Task]


async def test_nonces_are_those_of_their_own_task(engine: Engine) -> None:
    await insert(engine, task("1"), task("2"))
    one, two = await claim(engine, count=2)
    swapped = [commit(Hold(one.id, two.nonce)), commit(Hold(two.id, one.nonce))]
    assert kinds(await engine.commit(swapped)) == [NonceMismatch] * 2
    assert await engine.held([hold(one), hold(two)]) == [True, True]


@pytest.mark.parametrize("others", [0, 3])
async def test_the_second_commit_with_a_nonce_fails(engine: Engine, others: int) -> None:
    await insert(engine, *(task(str(n)) for n in range(1 + others)))
    claimed = await claim(engine, count=1 + others)
    batch = [commit(found) for found in claimed]
    assert kinds(await engine.commit(batch)) == [Task] * len(batch)
    assert kinds(await engine.commit(batch)) == [NonceMismatch] * len(batch)


async def test_commits_of_one_task_apply_in_order(engine: Engine) -> None:
    await insert(engine, task("1"), task("2"))
    one, two = await claim(engine, count=2)
    results = await engine.commit(
        [
            commit(one, state=0, payload="first"),
            commit(two),
            commit(one),
            Commit(id="1", state=3),
            Commit(id="1", state=0, topic="other"),
            commit(two),
        ]
    )
    assert kinds(results) == [Task, Task, NonceMismatch, Task, Task, NonceMismatch]
    assert [done(results[index]).state for index in (0, 3, 4)] == [0, 3, 0]
    assert await engine.get("1") == results[4]
    assert (await engine.get("1")).payload == raw("first")


@pytest.mark.parametrize("size", [1, 5])
async def test_concurrent_commits_with_one_nonce_apply_once(engine: Engine, size: int) -> None:
    await insert(engine, *(task(str(n)) for n in range(20)))
    claimed = await claim(engine, count=20)
    calls = [
        engine.commit([commit(found, payload=f"attempt {attempt}") for found in claimed[start : start + size]])
        for attempt in range(6)
        for start in range(0, 20, size)
    ]
    results = [result for answer in await asyncio.gather(*calls) for result in answer]
    assert Counter(kinds(results)) == {Task: 20, NonceMismatch: 100}
    winners = {result.id: result for result in results if isinstance(result, Task)}
    assert winners == {found.id: found for found in await engine.list_tasks("", "", 0, 100)}


async def test_commits_race_with_releases_and_promises_exactly(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(40)))
    claimed = await claim(engine, count=40)
    async with asyncio.TaskGroup() as group:
        commits = group.create_task(engine.commit([commit(found) for found in claimed]))
        releases = group.create_task(engine.release([hold(found) for found in claimed]))
        for found in claimed[::4]:
            group.create_task(engine.promise(found.id, grant("thief"), force=True))
    for found, result, topic in zip(claimed, commits.result(), releases.result(), strict=True):
        now = await engine.get(found.id)
        assert not (isinstance(result, Task) and topic is not None)
        if now.consumer != "thief":
            assert now.state == (2 if isinstance(result, Task) else 0)
            assert isinstance(result, Task) or topic == "t"


async def test_payloads_can_be_left_out_of_the_answer_only(engine: Engine) -> None:
    await insert(engine, *(task(str(n), payload=n) for n in range(3)))
    claimed = await claim(engine, count=3)
    await engine.commit([commit(claimed[0])], payloads=False)
    results = await engine.commit([commit(claimed[1], scheduled=NOW + MS), commit(claimed[2])], payloads=False)
    assert [done(result).id for result in results] == ["1", "2"]
    assert [(await engine.get(str(n))).payload for n in range(3)] == [raw(n) for n in range(3)]


async def test_large_payloads_in_a_batch(engine: Engine) -> None:
    await insert(engine, *(task(str(n)) for n in range(8)))
    claimed = await claim(engine, count=8)
    payload = ["x" * 900_000]
    results = await engine.commit([commit(found, payload=payload) for found in claimed])
    assert kinds(results) == [Task] * 8
    assert (await engine.get("7")).payload == raw(payload)
