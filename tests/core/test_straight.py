"""Claims that do not wait, which go straight to the engine where nobody else waits."""

import asyncio
from collections import Counter

import pytest

from ratus.config import MAX_ANSWER_BYTES
from ratus.core.service import Service
from ratus.errors import Draining, StorageUnavailable
from ratus.model import PollRequest, TaskState
from tests.core.conftest import SECOND, Engine, claim, ids, insert, next_of, quiet, soon


async def test_they_share_what_there_is(service: Service, engine: Engine) -> None:
    await insert(service, *map(str, range(50)))
    results = await asyncio.gather(*(claim(service) for _ in range(80)))
    assert sorted(int(task.id) for tasks in results for task in tasks) == list(range(50))
    assert Counter(map(len, results)) == {1: 50, 0: 30}
    assert engine.claims == 80  # merged by the engine


async def test_a_claim_has_what_it_asks_for(service: Service) -> None:
    await insert(service, *map(str, range(5)))
    tasks = await claim(service, limit=3, consumer="me", timeout=SECOND)
    assert ids(tasks) == ["0", "1", "2"]
    assert {task.consumer for task in tasks} == {"me"}
    assert {task.deadline - task.consumed for task in tasks if task.deadline and task.consumed} == {SECOND}
    assert [await service.get_task(task.id) for task in tasks] == tasks


async def test_what_a_repeat_would_get_is_left_to_it(service: Service, engine: Engine) -> None:
    await insert(service, "1")
    engine.gate = asyncio.Event()
    call = asyncio.create_task(claim(service, request_id="r", consumer="me"))
    await engine.claimed.wait()
    call.cancel()
    await asyncio.wait([call])
    engine.gate = None
    assert (await service.get_task("1")).state == TaskState.ACTIVE
    assert ids(await claim(service, request_id="r", consumer="me")) == ["1"]


async def test_answers_stop_before_the_bound(service: Service) -> None:
    name = "n" * 1000
    await insert(service, *(f"{number:0>1000}" for number in range(600)), topic=name, producer=name)
    tasks = await claim(service, topic=name, limit=1000)
    size = sum(len(task.id) + len(task.topic) + len(task.producer) for task in tasks)
    assert MAX_ANSWER_BYTES / 10 < size < MAX_ANSWER_BYTES
    claimed = len(tasks)
    while claimed < 600:  # the others have been released
        claimed += len(await claim(service, topic=name, limit=1000, wait=30 * SECOND))
    assert claimed == 600


async def test_whoever_waits_comes_first(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=2))
    waiting = asyncio.create_task(next_of(stream))
    assert await quiet(service.subscribe(PollRequest(topics=["t"], max_in_flight=1)))
    inserting = asyncio.create_task(insert(service, "1"))
    late = asyncio.create_task(claim(service))
    assert ids(await soon(waiting)) == ["1"]
    await inserting
    assert await soon(late) == []
    stream.close()


async def test_a_claim_tells_that_the_storage_is_gone(service: Service, engine: Engine) -> None:
    await insert(service, "1")
    engine.failures = 1
    with pytest.raises(StorageUnavailable):
        await claim(service)
    assert ids(await claim(service)) == ["1"]


async def test_a_server_that_drains_claims_no_more(service: Service) -> None:
    service.drain()
    with pytest.raises(Draining):
        await claim(service)
