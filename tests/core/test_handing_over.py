"""Tasks that are inserted while consumers wait for them."""

import asyncio

import pytest

from ratus.core.service import Service
from ratus.errors import StorageUnavailable
from ratus.model import PollRequest, TaskState
from tests.core.conftest import MS, SECOND, Engine, claim, complete, ids, insert, next_of, quiet, soon


async def test_a_waiting_consumer_gets_a_new_task_without_a_claim(service: Service, engine: Engine) -> None:
    stream = service.subscribe(PollRequest(topics=["t"], consumer="me", timeout=SECOND))
    listening = asyncio.create_task(stream.next())
    assert await claim(service, wait=MS) == []
    await service.get_topic_stats("t")  # by now the claimer knows that nothing is scheduled either
    before = engine.claims
    await insert(service, "1", payload=b'{"a":1}')
    [task] = await soon(listening)
    assert engine.claims == before
    assert await service.get_task("1") == task
    assert (task.state, task.consumer, len(task.nonce)) == (TaskState.ACTIVE, "me", 16)
    assert task.deadline is not None
    assert task.consumed is not None
    assert task.deadline - task.consumed == SECOND
    await complete(service, [task])
    stream.close()


async def test_a_new_task_does_not_overtake_others(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=1))
    assert await quiet(stream)
    await insert(service, *map(str, range(10)))  # nobody listens now
    seen: list[str] = []
    for n in range(10):
        tasks = await next_of(stream)
        seen += ids(tasks)
        listening = asyncio.create_task(stream.next())
        await insert(service, str(n + 10))
        await complete(service, tasks)
        seen += ids(held := await soon(listening))
        await complete(service, held)
    assert seen == [str(n) for n in range(20)]
    stream.close()


async def test_a_task_that_exists_is_not_handed_over(service: Service) -> None:
    await insert(service, "1", "2", topic="other")
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=5))
    listening = asyncio.create_task(stream.next())
    assert await claim(service, wait=MS) == []
    await insert(service, "1", "3", "2", "4")
    assert ids(await soon(listening)) == ["3", "4"]
    assert (await service.get_task("1")).state == TaskState.PENDING
    stream.close()
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    await insert(service, "1")
    await insert(service, "5")
    assert ids(await soon(waiting)) == ["5"]


async def test_only_what_is_due_is_handed_over(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=5))
    listening = asyncio.create_task(stream.next())
    assert await claim(service, wait=MS) == []
    await insert(service, "later", defer=100 * MS)
    assert (await service.get_task("later")).state == TaskState.PENDING
    await insert(service, "done", state=2)
    assert (await service.get_task("done")).state == TaskState.COMPLETED
    [task] = await soon(listening)
    assert task.id == "later"
    assert task.consumed is not None
    assert task.consumed >= task.scheduled
    stream.close()


async def test_a_cancelled_insert_is_handed_over_all_the_same(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    await service.get_topic_stats("t")
    inserting = asyncio.create_task(insert(service, "1"))
    await asyncio.sleep(0)  # the insert is on its way
    inserting.cancel()
    await asyncio.wait([inserting])
    assert ids(await soon(waiting)) == ["1"]


async def test_what_was_inserted_for_a_stream_that_has_gone_is_released(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"]))
    listening = asyncio.create_task(stream.next())
    assert await claim(service, wait=MS) == []
    inserting = asyncio.create_task(insert(service, "1"))
    await asyncio.sleep(0)
    listening.cancel()
    stream.close()
    await inserting
    assert ids(await claim(service, wait=30 * SECOND)) == ["1"]


async def test_an_insert_that_fails_leaves_nobody_waiting(service: Service, engine: Engine) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    engine.insert_failures = 1
    with pytest.raises(StorageUnavailable):
        await insert(service, "1")  # stored, but its answer was lost
    assert ids(await soon(waiting)) == ["1"]
    assert await claim(service) == []


async def test_a_task_that_comes_twice_in_a_batch_is_handed_over_once(service: Service) -> None:
    waiting = [asyncio.create_task(claim(service, wait=30 * SECOND)) for _ in range(2)]
    assert await claim(service, wait=MS) == []
    await service.get_topic_stats("t")
    await insert(service, "1", "1")
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [ids(task.result()) for task in done] == [["1"]]
    await insert(service, "2")
    assert [ids(await task) for task in left] == [["2"]]


async def test_a_new_task_does_not_overtake_a_claim_under_way(service: Service, engine: Engine) -> None:
    await insert(service, *(f"{n:04}" for n in range(100)))
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=100))
    engine.gate = asyncio.Event()
    listening = asyncio.create_task(stream.next())
    await engine.claimed.wait()
    await insert(service, "new")
    assert (await service.get_task("new")).state == TaskState.PENDING
    engine.gate.set()
    engine.gate = None
    seen = ids(await listening)
    while len(seen) < 100:
        seen += ids(await next_of(stream))
    assert seen == [f"{n:04}" for n in range(100)]
    stream.close()
