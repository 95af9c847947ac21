"""Claims of consumers of one process."""

import asyncio
import time
from collections import Counter
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from ratus import times
from ratus.config import MAX_ANSWER_BYTES, Limits
from ratus.core import delivery
from ratus.core.service import Service
from ratus.errors import Draining, StorageUnavailable
from ratus.model import Commit, PollRequest, Promise, TaskInput, TaskState
from tests.core.conftest import MS, SECOND, Engine, claim, ids, insert, next_of, soon


async def test_a_claim_of_nothing_is_empty_at_once(service: Service) -> None:
    assert await claim(service) == []
    assert await claim(service, limit=100) == []


async def test_a_claim_gets_up_to_its_limit_in_order(service: Service) -> None:
    await insert(service, *(f"{n:04}" for n in range(500)))
    assert ids(await claim(service, limit=300)) == [f"{n:04}" for n in range(300)]
    assert ids(await claim(service, limit=1000)) == [f"{n:04}" for n in range(300, 500)]


async def test_waiting_claims_share_what_there_is(service: Service, engine: Engine) -> None:
    await insert(service, *map(str, range(50)))
    results = await asyncio.gather(*(claim(service, wait=MS) for _ in range(80)))
    assert sorted(int(task.id) for tasks in results for task in tasks) == list(range(50))
    assert Counter(map(len, results)) == {1: 50, 0: 30}
    assert engine.claims < 10  # gathered


async def test_a_task_goes_to_whom_it_is_promised(service: Service, engine: Engine) -> None:
    engine.passed_over = 1
    await insert(service, "1")
    first, second = await asyncio.gather(*(claim(service, consumer=name, wait=MS) for name in ("first", "second")))
    assert first == []
    assert [task.consumer for task in second] == ["second"]


async def test_a_waiting_claim_wakes_for_an_insert(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []  # by now the other one waits
    await insert(service, "1")
    assert ids(await soon(waiting)) == ["1"]


@pytest.mark.parametrize("how", ["commit", "upsert", "delete promise", "delete promises", "recover", "move"])
async def test_a_waiting_claim_wakes_for_what_becomes_pending(service: Service, how: str) -> None:
    await insert(service, "1")
    [held] = await claim(service, deadline=times.now() - SECOND if how == "recover" else None)
    if how == "move":
        await service.commit_task(Commit(id="1", topic="elsewhere", state=0))
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    match how:
        case "commit":
            await service.commit_task(Commit(id="1", nonce=held.nonce, state=0))
        case "move":
            await service.commit_task(Commit(id="1", topic="t", state=0))
        case "upsert":
            await service.upsert_task(TaskInput(id="1", topic="t"))
        case "delete promise":
            assert await service.delete_promise("1") == 1
        case "delete promises":
            assert await service.delete_promises("t") == 1
        case "recover":
            await service.recover()
    assert ids(await soon(waiting)) == ["1"]


async def test_a_waiting_claim_gets_a_task_at_its_time_and_not_before(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_CLOCK_CHECK", 3600.0)  # so that nothing but the time of a task wakes
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    await service.insert_tasks(
        [TaskInput(id=id, topic="t", defer=n * MS) for id, n in (("later", 200), ("sooner", 50))]
    )
    for id, tasks in (("sooner", await waiting), ("later", await claim(service, wait=30 * SECOND))):
        [task] = tasks
        assert task.id == id
        assert task.consumed is not None
        assert task.consumed >= task.scheduled


async def test_a_scheduled_task_that_was_released_is_not_forgotten(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_CLOCK_CHECK", 3600.0)
    await insert(service, "1", defer=SECOND)
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    await service.insert_promise(Promise(id="1"))  # before its time
    await service.delete_promise("1")
    [task] = await soon(waiting)
    assert task.consumed is not None
    assert task.consumed >= task.scheduled


async def test_a_waiting_claim_of_many_is_answered_with_the_first(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, limit=10, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    await insert(service, "1")
    assert ids(await soon(waiting)) == ["1"]


async def test_a_wait_ends_empty(service: Service) -> None:
    begin = time.monotonic()
    assert await soon(claim(service, wait=50 * MS)) == []
    assert time.monotonic() - begin >= 0.05


async def test_a_cancelled_wait_takes_no_task(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service, wait=MS) == []
    waiting.cancel()
    await asyncio.wait([waiting])
    await insert(service, "1")
    assert (await service.get_task("1")).state == TaskState.PENDING
    assert ids(await claim(service)) == ["1"]


@pytest.mark.parametrize("wait", [None, 30 * SECOND])
async def test_what_was_claimed_for_a_cancelled_call_is_released(
    service: Service, engine: Engine, wait: timedelta | None
) -> None:
    await insert(service, "1")
    engine.gate = asyncio.Event()
    waiting = asyncio.create_task(claim(service, wait=wait))
    await engine.claimed.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    engine.gate.set()
    assert ids(await claim(service, wait=30 * SECOND)) == ["1"]


async def test_answers_stop_before_the_bound(service: Service) -> None:
    payload = b'"' + b"x" * 1_000_000 + b'"'
    await insert(service, *map(str, range(6)), payload=payload)
    tasks = await claim(service, limit=10)
    assert ids(tasks) == ["0", "1", "2"]
    assert sum(len(bytes(task.payload or b"")) for task in tasks) < MAX_ANSWER_BYTES
    assert ids(await claim(service, limit=10, wait=30 * SECOND)) == ["3", "4", "5"]


async def test_one_task_always_fits(engine: Engine) -> None:
    service = Service(engine, Limits(payload_bytes=10_000_000), CollectorRegistry())
    await insert(service, "1", "2", payload=b'"' + b"x" * 5_000_000 + b'"')
    assert ids(await claim(service, limit=10)) == ["1"]
    assert ids(await claim(service, limit=10, wait=30 * SECOND)) == ["2"]
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=10, max_bytes=100))
    await insert(service, "3", "4", payload=b'"' + b"x" * 5_000_000 + b'"')
    assert ids(await next_of(stream)) == ["3"]
    stream.close()
    await service.close()


async def test_a_claim_tells_that_the_storage_is_gone(service: Service, engine: Engine) -> None:
    await insert(service, "1")
    engine.failures = 1
    with pytest.raises(StorageUnavailable):
        await claim(service)
    assert ids(await claim(service)) == ["1"]


async def test_drain_ends_waits(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    stream = service.subscribe(PollRequest(topics=["t"]))
    listening = asyncio.create_task(stream.next())
    assert await claim(service, wait=MS) == []
    service.drain()
    for task in (waiting, listening):
        with pytest.raises(Draining):
            await soon(task)
    with pytest.raises(Draining):
        await claim(service)
    with pytest.raises(Draining):
        service.subscribe(PollRequest(topics=["t"]))
    with pytest.raises(Draining):
        await service.check_ready()
    stream.close()


async def test_a_short_wait_is_not_over_before_anybody_has_looked(engine: Engine, service: Service) -> None:
    await insert(service, "1", "2")
    engine.gate = asyncio.Event()
    first = asyncio.create_task(claim(service))
    await soon(engine.claimed.wait())
    second = asyncio.create_task(claim(service, wait=MS))
    await asyncio.wait([second], timeout=0.1)  # longer than it wants to wait
    engine.gate.set()
    assert ids(await soon(first)) == ["1"]
    assert ids(await soon(second)) == ["2"]


@pytest.mark.parametrize("due", [False, True])
async def test_a_drain_meets_a_claim_of_a_waiting_call(engine: Engine, service: Service, due: bool) -> None:
    if due:
        await insert(service, "1")
    engine.gate = asyncio.Event()
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    await soon(engine.claimed.wait())
    service.drain()
    engine.gate.set()
    if due:
        assert ids(await soon(waiting)) == ["1"]
    else:
        with pytest.raises(Draining):  # an answer that nothing is due would be taken for the end of the wait
            await soon(waiting)
