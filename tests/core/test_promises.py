"""Promises that are extended, released, repeated, missed and lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from ratus import times
from ratus.config import ChoreSettings, Limits
from ratus.core import alarm
from ratus.core.chores import run_chores
from ratus.core.service import Service
from ratus.errors import BadRequest, NonceMismatch
from ratus.model import Commit, Extension, Hold, PollRequest, Promise, TaskInput, TaskState
from tests.core.conftest import MS, SECOND, Engine, claim, complete, ids, insert, next_of, quiet, soon


@pytest.fixture
async def chores(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Background jobs that nothing but a deadline wakes."""
    monkeypatch.setattr(alarm, "_CLOCK_CHECK", 3600.0)
    task = asyncio.create_task(run_chores(service, ChoreSettings(interval=timedelta(hours=1))))
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_an_extension_keeps_the_nonce_and_may_be_shorter(service: Service) -> None:
    await insert(service, "1")
    [task] = await claim(service, timeout=SECOND)
    for timeout in (timedelta(hours=1), SECOND):
        before = times.now()
        assert await service.extend_promises([Extension(id="1", nonce=task.nonce, timeout=timeout)]) == [None]
        stored = await service.get_task("1")
        assert stored.nonce == task.nonce
        assert stored.deadline is not None
        assert before + timeout <= stored.deadline <= times.now() + timeout
    await complete(service, [task])


async def test_extensions_are_answered_one_by_one(service: Service) -> None:
    await insert(service, "1", "2", "3")
    one, two, three = await claim(service, limit=3)
    await complete(service, [two])
    extensions = [
        Extension(id="1", nonce=one.nonce),
        Extension(id="2", nonce=two.nonce),
        Extension(id="3", nonce="stale"),
        Extension(id="4", nonce="n"),
        Extension(id="3", nonce=three.nonce, deadline=times.now() + SECOND),
    ]
    results = await service.extend_promises(extensions)
    assert [type(result) for result in results] == [type(None), *[NonceMismatch] * 3, type(None)]
    with pytest.raises(BadRequest) as caught:
        await service.extend_promises([extensions[0], Extension(id="1")])
    assert caught.value.field == "extensions[1].nonce"


async def test_releases_are_answered_one_by_one(service: Service) -> None:
    await insert(service, "1", "2")
    one, two = await claim(service, limit=2)
    holds = [Hold("1", one.nonce), Hold("1", one.nonce), Hold("2", "stale")]
    results = await service.release_promises(holds)
    assert [type(result) for result in results] == [type(None), NonceMismatch, NonceMismatch]
    assert ids(await claim(service)) == ["1"]
    await complete(service, [two])


async def test_an_extension_counts_in_the_window(service: Service) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], timeout=100 * MS))
    [task] = await next_of(stream)
    await service.extend_promises([Extension(id="1", nonce=task.nonce, timeout=timedelta(hours=1))])
    waiting = asyncio.create_task(stream.next())
    done, _ = await asyncio.wait([waiting], timeout=0.2)  # longer than the first deadline
    assert not done
    await service.extend_promises([Extension(id="1", nonce=task.nonce, timeout=MS)])
    assert ids(await soon(waiting)) == ["2"]
    stream.close()


@pytest.mark.usefixtures("chores")
async def test_a_missed_deadline_is_redelivered_by_itself(service: Service) -> None:
    await insert(service, "1")
    stream = service.subscribe(PollRequest(topics=["t"], timeout=50 * MS))
    [first] = await next_of(stream)
    [second] = await next_of(stream)
    assert (first.id, second.id) == ("1", "1")
    assert first.nonce != second.nonce
    assert first.deadline is not None
    assert second.consumed is not None
    assert second.consumed > first.deadline
    with pytest.raises(NonceMismatch):
        await service.commit_task(Commit(id="1", nonce=first.nonce))
    stream.close()


@pytest.mark.usefixtures("chores")
@pytest.mark.parametrize("how", ["claim", "insert promise", "insert", "upsert", "extend"])
async def test_every_way_to_a_deadline_is_watched(service: Service, how: str) -> None:
    soon = 50 * MS
    match how:
        case "claim":
            await insert(service, "1")
            await claim(service, timeout=soon)
        case "insert promise":
            await insert(service, "1")
            await service.insert_promise(Promise(id="1", timeout=soon))
        case "insert":
            await service.insert_task(TaskInput(id="1", topic="t", state=1, deadline=times.now() + soon))
        case "upsert":
            await service.upsert_task(TaskInput(id="1", topic="t", state=1, deadline=times.now() + soon))
        case "extend":
            await insert(service, "1")
            [task] = await claim(service, timeout=timedelta(hours=1))
            await service.extend_promises([Extension(id="1", nonce=task.nonce, timeout=soon)])
    assert (await service.get_task("1")).state == TaskState.ACTIVE
    assert ids(await claim(service, wait=30 * SECOND)) == ["1"]


async def test_recovery_can_be_turned_off(service: Service) -> None:
    await insert(service, "1")
    await claim(service, timeout=-SECOND)
    await run_chores(service, ChoreSettings(interval=timedelta(0)))
    assert (await service.get_task("1")).state == TaskState.ACTIVE


async def test_the_chores_delete_what_was_kept_long_enough(engine: Engine) -> None:
    service = Service(engine, Limits(), CollectorRegistry())
    old = times.now() - timedelta(hours=73)
    await service.insert_tasks(
        [
            TaskInput(id="old", topic="t", state=2, consumed=old),
            TaskInput(id="archived", topic="t", state=3, consumed=old),
        ]
    )
    chores = asyncio.create_task(run_chores(service, ChoreSettings(initial_delay=MS)))
    await soon(engine.expired.wait())
    assert (await service.get_topic("t")).count == 1
    assert (await service.get_task("archived")).state == TaskState.ARCHIVED
    chores.cancel()
    await asyncio.wait([chores])
    await service.close()


async def test_a_repeated_claim_gets_the_same_tasks(service: Service) -> None:
    await insert(service, *map(str, range(5)))
    first = await claim(service, consumer="c", limit=3, request_id="r")
    assert ids(first) == ["0", "1", "2"]
    assert await claim(service, consumer="c", limit=3, request_id="r") == first
    await complete(service, first[:1])
    assert await claim(service, consumer="c", limit=3, request_id="r") == first[1:]
    await complete(service, first[1:])
    assert ids(await claim(service, consumer="c", limit=3, request_id="r")) == ["3", "4"]  # nothing was held any more


async def test_a_repeat_belongs_to_a_topic_and_a_consumer(service: Service) -> None:
    await insert(service, "1", "2", "3")
    assert ids(await claim(service, consumer="c", request_id="r")) == ["1"]
    assert ids(await claim(service, consumer="d", request_id="r")) == ["2"]
    assert ids(await claim(service, consumer="c", request_id="rr")) == ["3"]
    assert await claim(service, topic="u", consumer="c", request_id="r") == []


@pytest.mark.parametrize("other", [{"limit": 2}, {"timeout": SECOND}, {"deadline": times.MAX_TIME}])
async def test_a_repeat_with_other_parameters(service: Service, other: dict[str, object]) -> None:
    await insert(service, "1", "2")
    await claim(service, request_id="r")
    with pytest.raises(BadRequest) as caught:
        await claim(service, request_id="r", **other)
    assert caught.value.field == "request_id"


async def test_a_repeat_after_the_deadline_is_a_fresh_claim(service: Service) -> None:
    await insert(service, "1", "2")
    assert ids(await claim(service, request_id="r", timeout=-SECOND)) == ["1"]
    assert ids(await claim(service, request_id="r", timeout=-SECOND)) == ["2"]


async def test_concurrent_repeats_claim_once(service: Service) -> None:
    await insert(service, *map(str, range(10)))
    results = await asyncio.gather(*(claim(service, limit=2, request_id="r") for _ in range(5)))
    assert all(tasks == results[0] for tasks in results)
    assert len(results[0]) == 2


async def test_a_repeat_while_the_first_waits(service: Service) -> None:
    first = asyncio.create_task(claim(service, wait=30 * SECOND, request_id="r"))
    await claim(service)
    second = asyncio.create_task(claim(service, wait=30 * SECOND, request_id="r"))
    await insert(service, "1", "2")
    assert await first == await second
    assert ids(await first) == ["1"]


@pytest.mark.parametrize("how", ["upsert", "delete", "promise", "delete promise", "force", "deadline", "delete topic"])
async def test_a_stream_is_told_what_it_has_lost(service: Service, how: str) -> None:
    await insert(service, "1")
    timeout = 50 * MS if how == "deadline" else None
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=5, timeout=timeout), notices=True)
    await next_of(stream)
    match how:
        case "upsert":
            await service.upsert_task(TaskInput(id="1", topic="other"))
        case "delete":
            await service.delete_task("1")
        case "promise":
            await service.upsert_promise(Promise(id="1"))
        case "delete promise":
            await service.delete_promise("1")
        case "force":
            await service.commit_task(Commit(id="1"))
        case "delete topic":
            await service.delete_topic("t")
    assert await next_of(stream) == []
    assert stream.take_lost() == ["1"]
    assert stream.take_lost() == []
    stream.close()


async def test_a_stream_is_not_told_what_its_holder_did(service: Service) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=5), notices=True)
    one, two = await next_of(stream)
    await service.commit_task(Commit(id="1", nonce=one.nonce, state=3))
    await service.release_promises([Hold("2", two.nonce)])
    assert ids(await next_of(stream)) == ["2"]
    assert stream.take_lost() == []
    stream.close()


async def test_a_window_can_grow_and_shrink(service: Service) -> None:
    await insert(service, *map(str, range(10)))
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=1))
    held = await next_of(stream)
    assert await quiet(stream)
    waiting = asyncio.create_task(stream.next())
    stream.resize(4, 0)
    held += await soon(waiting)
    assert ids(held) == ["0", "1", "2", "3"]
    stream.resize(2, 0)
    await complete(service, held[:2])
    assert await quiet(stream)
    await complete(service, held[2:3])
    assert ids(await next_of(stream)) == ["4"]
    with pytest.raises(BadRequest):
        stream.resize(10_001, 0)
    stream.close()


async def test_an_idle_stream_says_so(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"]))
    assert await stream.next(10 * MS) == []
    await insert(service, "1")
    assert ids(await stream.next(30 * SECOND)) == ["1"]
    assert await stream.next(10 * MS) == []
    stream.close()
