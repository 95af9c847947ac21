"""Subscriptions and what becomes of the tasks that they deliver."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pydantic
import pytest

import ratus
from tests.client.helpers import ACTIVE, ARCHIVED, COMPLETED, PENDING, counts, in_state, soon, until
from tests.rpc.serving import Running


async def test_the_workflow(queue: ratus.Queue) -> None:
    await queue.insert("fetch", id="example.com", payload={"url": "https://example.com"}, defer="50ms")
    async for task in queue.subscribe("fetch", concurrency=20, timeout="30s"):
        async with task:
            assert (task.id, task.topic, task.state, task.consumer) == ("example.com", "fetch", ACTIVE, "tests")
            assert task.consumed is not None
            assert task.deadline == task.consumed + timedelta(seconds=30)
            assert timedelta(0) < task.remaining <= timedelta(seconds=30)
            assert task.payload["url"] == "https://example.com"
            task.topic = "parse"
        break
    stored = await queue.get_task("example.com")
    assert (stored.topic, stored.state, stored.nonce) == ("parse", COMPLETED, "")


async def take(queue: ratus.Queue, *, stay: bool = False, **options: Any) -> ratus.ActiveTask[Any]:
    """Insert a task and have it delivered; the stream ends then, if it is not to stay."""
    await queue.insert("t", {"n": 1}, id="1")
    subscription = queue.subscribe("t", **options)
    task = await subscription.next()
    assert task is not None
    if not stay:
        await subscription.close()
    return task


async def test_what_a_commit_can_set(queue: ratus.Queue) -> None:
    task = await take(queue)
    later = soon(hours=1)
    async with task:
        task.topic, task.state, task.scheduled, task.payload = "u", ratus.TaskState.ARCHIVED, later, [1]
        assert (task.topic, task.state, task.scheduled, task.payload) == ("u", ARCHIVED, later, [1])
    stored = await queue.get_task("1")
    assert (stored.topic, stored.state, stored.scheduled) == ("u", ARCHIVED, later)
    assert ratus.decode(stored.payload) == [1]


async def test_the_short_forms(queue: ratus.Queue) -> None:
    task = await take(queue)
    await task.retry("1h").commit()
    stored = await queue.get_task("1")
    assert stored.state == PENDING
    assert timedelta(minutes=59) < stored.scheduled - soon() <= timedelta(hours=1)
    [task] = await claim(queue)
    await task.archive().commit()
    assert (await queue.get_task("1")).state == ARCHIVED
    [task] = await claim(queue)
    when = soon(minutes=5)
    await task.reschedule(when).commit()
    assert (stored := await queue.get_task("1")).scheduled == when
    assert stored.state == PENDING
    [task] = await claim(queue)
    await task.archive().reset().abstain().commit()
    assert (await queue.get_task("1")).state == PENDING
    [task] = await claim(queue)
    await queue.delete_promise("1")
    with pytest.raises(ratus.NonceMismatch):
        await task.commit()
    assert task.lost
    assert not task.settled
    await task.force().commit()
    assert (await queue.get_task("1")).state == COMPLETED


async def claim(queue: ratus.Queue) -> list[ratus.ActiveTask[Any]]:
    """Claim the task, whatever became of it."""
    await queue.upsert("t", id="1")
    return await queue.claim("t")


async def test_an_exception_gives_the_task_back(queue: ratus.Queue) -> None:
    task = await take(queue)
    with pytest.raises(ZeroDivisionError):
        async with task:
            task.topic = "u"
            _ = 1 / 0
    stored = await queue.get_task("1")
    assert (stored.topic, stored.state, stored.nonce) == ("t", PENDING, "")


async def test_a_cancelled_block_gives_the_task_back(queue: ratus.Queue) -> None:
    task = await take(queue)
    begun = asyncio.Event()

    async def work() -> None:
        async with task:
            begun.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert (await queue.get_task("1")).state == PENDING


async def test_what_was_settled_in_the_block_stays(queue: ratus.Queue) -> None:
    task = await take(queue)
    with contextlib.suppress(ZeroDivisionError):
        async with task:
            await task.commit()
            _ = 1 / 0
    assert (await queue.get_task("1")).state == COMPLETED


async def test_a_loop_that_is_left_gives_back_what_it_has_not_got(queue: ratus.Queue) -> None:
    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(20)])
    async for task in queue.subscribe("t", concurrency=10):
        await task.commit()
        break

    async def given_back() -> bool:
        stats = await queue.get_topic_stats("t")
        return (stats.pending, stats.active, stats.waiting_consumers) == (19, 0, 0)

    await until(given_back)


async def test_the_block_of_a_subscription_outlives_its_loops(queue: ratus.Queue) -> None:
    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(4)])
    seen = []
    async with queue.subscribe("t") as tasks:
        for _ in range(2):
            async for task in tasks:
                await task.commit()
                seen.append(task.id)
                if len(seen) % 2 == 0:
                    break
    assert seen == ["0", "1", "2", "3"]
    assert await tasks.next() is None


async def test_no_more_are_held_than_wanted(queue: ratus.Queue) -> None:
    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(20)])
    subscription = queue.subscribe("t", concurrency=3)
    held = [await subscription.next() for _ in range(3)]
    waiting = asyncio.create_task(subscription.next())
    assert (await queue.get_topic_stats("t")).active == 3
    assert not waiting.done()
    assert held[0] is not None
    await held[0].commit()
    assert (await waiting) is not None
    assert (await queue.get_topic_stats("t")).active == 3


async def test_several_loops_share_a_subscription(queue: ratus.Queue) -> None:
    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(20)])
    subscription = queue.subscribe("t", concurrency=4)
    seen: list[str] = []
    together = asyncio.Barrier(4)

    async def work() -> None:
        async for task in subscription:
            async with task:
                seen.append(task.id)
                await together.wait()  # four at once
            if len(seen) == 20:
                subscription.stop()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(work())
    assert sorted(map(int, seen)) == list(range(20))


async def test_several_topics(queue: ratus.Queue) -> None:
    await queue.insert("a", id="1")
    await queue.insert("b", id="2")
    subscription = queue.subscribe("a", "b", concurrency=2)
    assert {task.topic for task in [await subscription.next(), await subscription.next()] if task} == {"a", "b"}


async def test_what_the_server_refuses_is_raised(queue: ratus.Queue) -> None:
    for subscription, field in (
        (queue.subscribe(), "topics"),
        (queue.subscribe("t", concurrency=10_001), "max_in_flight"),
        (queue.subscribe("t", timeout=0), "timeout"),
    ):
        with pytest.raises(ratus.BadRequest, match=field):
            async for _ in subscription:
                pass
    with pytest.raises(ratus.BadRequest, match="concurrency: must be positive"):
        queue.subscribe("t", concurrency=0)


@pytest.mark.parametrize("stay", [True, False], ids=["stream", "call"])
async def test_promises_are_extended_while_tasks_are_held(queue: ratus.Queue, stay: bool) -> None:
    task = await take(queue, timeout="4s", stay=stay)
    assert task.consumed is not None
    begin = (await queue.get_task("1")).deadline
    assert begin is not None

    async def extended() -> bool:
        deadline = (await queue.get_task("1")).deadline
        return deadline is not None and deadline > begin + timedelta(seconds=3)

    await until(extended, 30)
    assert timedelta(0) < task.remaining <= timedelta(seconds=4)
    assert not task.lost
    await task.commit()


async def test_without_extension_the_promise_is_lost(queue: ratus.Queue) -> None:
    task = await take(queue, timeout="200ms", extend=False, stay=True)
    async with asyncio.timeout(30):
        await task.wait_lost()
    assert task.lost
    assert task.remaining == timedelta(0)


@pytest.mark.parametrize("how", ["release", "upsert", "delete"])
async def test_a_promise_that_others_end_is_lost(queue: ratus.Queue, how: str) -> None:
    task = await take(queue, stay=True)
    assert not task.lost
    waiting = asyncio.create_task(task.wait_lost())
    match how:
        case "release":
            await queue.delete_promise("1")
        case "upsert":
            await queue.upsert_promise(ratus.Promise(id="1"))
        case "delete":
            await queue.delete_task("1")
    async with asyncio.timeout(30):
        await waiting
        await task.wait_lost()
    assert task.lost
    with pytest.raises(ratus.NotFound if how == "delete" else ratus.NonceMismatch):
        async with task:
            pass


async def test_a_lost_promise_that_nobody_has_told_of_shows_at_its_extension(
    queue: ratus.Queue, running: Running
) -> None:
    await queue.insert("t", id="1")
    [task] = await queue.claim("t")
    await queue.delete_promise("1")
    with pytest.raises(ratus.NonceMismatch):
        await task.extend("1m")
    assert task.lost


async def test_the_end_of_the_client_gives_back_what_is_held(queue: ratus.Queue, running: Running) -> None:
    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(20)])
    async with ratus.connect(running.target) as other:
        subscription = other.subscribe("t", concurrency=10)
        held = [await subscription.next() for _ in range(5)]
        assert all(held)
    await counts(queue, "t", 20)


class Struct(msgspec.Struct):
    url: str
    depth: int = 0


@dataclass
class Data:
    url: str
    depth: int = 0


class Model(pydantic.BaseModel):
    url: str
    depth: int = 0


@pydantic.dataclasses.dataclass
class ModelData:
    url: str
    depth: int = 0


@pytest.mark.parametrize("type", [Struct, Data, Model, ModelData])
async def test_payloads_have_types(queue: ratus.Queue, type: Any) -> None:
    await queue.insert("t", type(url="u", depth=2), id="1")
    await queue.insert("t", {"depth": 2}, id="2")
    subscription = queue.subscribe("t", type=type)
    task = await subscription.next()
    assert task is not None
    assert task.payload == type(url="u", depth=2)
    task.payload = type(url="v")
    await task.commit()
    assert ratus.decode((await queue.get_task("1")).payload, type) == type(url="v", depth=0)
    bad = await subscription.next()
    assert bad is not None
    with pytest.raises(ratus.PayloadError, match="url"):
        _ = bad.payload
    assert bad.raw_payload == b'{"depth":2}'


async def test_no_payload(queue: ratus.Queue) -> None:
    await queue.insert("t", id="1")
    [task] = await queue.claim("t", type=Struct)
    assert task.raw_payload is None
    with pytest.raises(ratus.PayloadError):
        _ = task.payload
    assert ratus.decode(None) is None
    await in_state(queue, "1", ACTIVE)
