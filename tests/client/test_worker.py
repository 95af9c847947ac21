"""Workers in this process: what becomes of tasks, and how work ends."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest

import ratus
from tests.client.helpers import ACTIVE, ARCHIVED, COMPLETED, PENDING, counts, in_state, soon, until
from tests.rpc.serving import Running

Task = ratus.ActiveTask[Any]


async def test_what_a_handler_sets_is_committed(queue: ratus.Queue) -> None:
    seen: list[str] = []

    @queue.worker("fetch", "parse", concurrency=5)
    async def work(task: Task) -> None:
        seen.append(f"{task.topic} {task.id}")
        if task.topic == "fetch":
            task.abstain().topic = "parse"
        elif len(seen) == 20:
            queue.stop()

    await queue.insert_tasks([ratus.new_task("fetch", id=str(n)) for n in range(10)])
    await queue.run()
    assert sorted(seen) == sorted(f"{topic} {n}" for topic in ("fetch", "parse") for n in range(10))
    assert (await queue.get_topic_stats("parse")).completed == 10


async def test_handlers_run_at_once_and_no_more_than_wanted(queue: ratus.Queue) -> None:
    together = asyncio.Barrier(4)
    running = 0

    @queue.worker("t", concurrency=4)
    async def work(task: Task) -> None:
        nonlocal running
        running += 1
        assert running <= 4
        await together.wait()
        running -= 1
        if task.id == "19":
            queue.stop()

    await queue.insert_tasks([ratus.new_task("t", id=f"{n:02}") for n in range(20)])
    async with asyncio.timeout(30):
        await queue.run()
    assert (await queue.get_topic_stats("t")).completed == 20


async def test_a_worker_can_be_called_as_its_handler(queue: ratus.Queue) -> None:
    @queue.worker("t")
    async def work(task: Task) -> str:
        return task.id

    await queue.insert("t", id="1")
    [task] = await queue.claim("t")
    assert await work(task) == "1"


async def fail(queue: ratus.Queue, error: BaseException, payload: Any = None, **options: Any) -> ratus.Task:
    """The task once a handler has failed it."""

    @queue.worker("t", **options)
    async def work(task: Task) -> None:
        queue.stop()
        task.topic = "must be forgotten"
        raise error

    await queue.upsert("t", payload, id="1")
    await queue.run()
    queue._workers.clear()
    return await queue.get_task("1")


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError(), TimeoutError()])
async def test_a_failed_task_is_tried_again_after_a_pause(
    queue: ratus.Queue, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    task = await fail(queue, error, {"n": 1}, retry="1h")
    assert (task.topic, task.state) == ("t", PENDING)
    assert timedelta(minutes=50) < task.scheduled - soon() < timedelta(minutes=70)
    assert ratus.decode(task.payload) == {"n": 1}
    assert "the handler of task '1' failed; it is executed again in" in caplog.text


async def test_attempts_are_counted_where_the_payload_has_a_place(queue: ratus.Queue) -> None:
    policy = ratus.Retry("1m", factor=10, longest="1h", attempts=4, counter="attempts")
    payload: Any = {"n": 1}
    for attempts, pause in ((1, 1), (2, 10), (3, 60)):
        task = await fail(queue, ZeroDivisionError(), payload, retry=policy)
        payload = ratus.decode(task.payload)
        assert payload == {"n": 1, "attempts": attempts}
        assert 0.7 * pause < (task.scheduled - soon()) / timedelta(minutes=1) < 1.15 * pause
    task = await fail(queue, ZeroDivisionError(), payload, retry=policy)
    assert task.state == ARCHIVED
    assert ratus.decode(task.payload) == {"n": 1, "attempts": 4}


async def test_attempts_cannot_be_counted_in_other_payloads(queue: ratus.Queue) -> None:
    policy = ratus.Retry("1m", attempts=2, counter="attempts")
    for _ in range(3):
        task = await fail(queue, ZeroDivisionError(), [1], retry=policy)
        assert (task.state, ratus.decode(task.payload)) == (PENDING, [1])


def test_a_policy_that_counts_needs_a_counter() -> None:
    for options in ({"factor": 2}, {"attempts": 3}):
        with pytest.raises(ValueError, match="counter"):
            ratus.Retry("1s", **options)  # type: ignore[arg-type]


async def test_a_policy_of_ones_own(queue: ratus.Queue) -> None:
    def policy(task: ratus.HeldTask[Any], error: BaseException) -> None:
        task.topic = type(error).__name__

    task = await fail(queue, ZeroDivisionError(), retry=policy)
    assert (task.topic, task.state) == ("ZeroDivisionError", COMPLETED)


async def test_a_policy_that_fails(queue: ratus.Queue) -> None:
    def policy(task: ratus.HeldTask[Any], error: BaseException) -> None:
        raise KeyError("broken")

    assert (await fail(queue, ZeroDivisionError(), retry=policy)).state == PENDING


async def test_a_payload_of_the_wrong_type_is_archived(queue: ratus.Queue) -> None:
    class Page(msgspec.Struct):
        url: str

    @queue.worker("t", type=Page)
    async def work(task: ratus.ActiveTask[Page]) -> None:
        queue.stop()
        _ = task.payload.url

    await queue.insert("t", {"no": "url"}, id="1")
    await queue.run()
    assert (await queue.get_task("1")).state == ARCHIVED


async def test_a_handler_beyond_its_time_limit_has_failed(queue: ratus.Queue) -> None:
    @queue.worker("t", time_limit="50ms", retry="1h")
    async def work(task: Task) -> None:
        queue.stop()
        await asyncio.Event().wait()

    await queue.insert("t", id="1")
    await queue.run()
    task = await queue.get_task("1")
    assert task.state == PENDING
    assert task.scheduled > soon(minutes=50)


async def test_a_handler_may_take_longer_than_the_timeout(queue: ratus.Queue) -> None:
    @queue.worker("t", timeout="4s")
    async def work(task: Task) -> None:
        first = (await queue.get_task("1")).deadline
        assert first is not None

        async def extended_past_it() -> bool:
            deadline = (await queue.get_task("1")).deadline
            return deadline is not None and deadline > first + timedelta(seconds=5)

        await until(extended_past_it, 60)
        assert not task.lost
        queue.stop()

    await queue.insert("t", id="1")
    await queue.run()
    assert (await queue.get_task("1")).state == COMPLETED


async def test_a_handler_whose_promise_is_lost_is_cancelled(queue: ratus.Queue) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @queue.worker("t")
    async def work(task: Task) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await queue.insert("t", id="1")
    running = asyncio.create_task(queue.run())
    await begun.wait()
    other = await queue.upsert_promise(ratus.Promise(id="1", consumer="other"))
    async with asyncio.timeout(30):
        await cancelled.wait()
    queue.stop()
    await running
    assert (await queue.get_task("1")).nonce == other.nonce


async def test_handlers_get_a_grace_and_are_given_back_after_it(queue: ratus.Queue) -> None:
    begun = {"quick": asyncio.Event(), "slow": asyncio.Event()}
    stopped = asyncio.Event()

    @queue.worker("t", concurrency=2)
    async def work(task: Task) -> None:
        begun[task.id].set()
        await (stopped if task.id == "quick" else asyncio.Event()).wait()

    for id in begun:
        await queue.insert("t", id=id)
    running = asyncio.create_task(queue.run(grace="300ms"))
    for event in begun.values():
        await event.wait()
    await queue.insert("t", id="unbegun")
    queue.stop()
    stopped.set()
    await running
    assert (await queue.get_task("quick")).state == COMPLETED
    assert (await queue.get_task("slow")).state == PENDING
    await in_state(queue, "unbegun", PENDING)


async def test_work_that_is_cancelled_gives_back(queue: ratus.Queue) -> None:
    begun = asyncio.Event()

    @queue.worker("t", concurrency=5)
    async def work(task: Task) -> None:
        begun.set()
        await asyncio.Event().wait()

    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(10)])
    running = asyncio.create_task(queue.run())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await counts(queue, "t", 10)


async def test_plain_functions_run_in_threads(queue: ratus.Queue) -> None:
    together = threading.Barrier(3)

    @queue.worker("t", concurrency=3, retry="1h")
    def work(task: Task) -> None:
        together.wait(10)
        if task.id == "1":
            raise ValueError
        task.topic = "done"

    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(3)])
    running = asyncio.create_task(queue.run())
    await in_state(queue, "0", COMPLETED)
    await in_state(queue, "1", PENDING)
    await in_state(queue, "2", COMPLETED)
    queue.stop()
    await running
    assert [(await queue.get_task(str(n))).topic for n in range(3)] == ["done", "t", "done"]


async def test_two_workers_share_a_topic(queue: ratus.Queue, running: Running) -> None:
    seen: dict[str, list[str]] = {"one": [], "two": []}
    both = asyncio.Barrier(2)
    async with (
        ratus.connect(running.target, consumer="one") as one,
        ratus.connect(running.target, consumer="two") as two,
    ):

        async def work(task: Task) -> None:
            if not seen[task.consumer]:
                seen[task.consumer].append(task.id)
                await both.wait()  # each gets at least one
            else:
                seen[task.consumer].append(task.id)

        for each in (one, two):
            each.worker("t", concurrency=2)(work)
        runs = [asyncio.create_task(each.run(signals=())) for each in (one, two)]

        async def wait() -> bool:
            return (await queue.get_topic_stats("t")).waiting_consumers == 2

        await until(wait)
        await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(100)])

        async def done() -> bool:
            return (await queue.get_topic_stats("t")).completed == 100

        await until(done)
        for each in (one, two):
            each.stop()
        await asyncio.gather(*runs)
    assert sorted(seen["one"] + seen["two"], key=int) == [str(n) for n in range(100)]
    assert seen["one"]
    assert seen["two"]


async def test_what_the_server_refuses_ends_the_run(queue: ratus.Queue) -> None:
    @queue.worker("t", concurrency=20_000)
    async def work(task: Task) -> None: ...

    with pytest.raises(ratus.BadRequest, match="max_in_flight"):
        await queue.run()


async def test_without_workers_there_is_nothing_to_run(queue: ratus.Queue) -> None:
    with pytest.raises(RuntimeError, match="no worker"):
        await queue.run()


async def test_a_task_that_was_committed_by_others_meanwhile(
    queue: ratus.Queue, caplog: pytest.LogCaptureFixture
) -> None:
    @queue.worker("t")
    async def work(task: Task) -> None:
        assert task.state == ACTIVE
        task.nonce = "another"
        queue.stop()

    await queue.insert("t", id="1")
    await queue.run()
    assert "task '1' was taken by others" in caplog.text
