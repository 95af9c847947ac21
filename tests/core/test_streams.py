"""Streams to consumers of one process."""

import asyncio
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry

from ratus.config import Limits
from ratus.core import claimer
from ratus.core.service import Service
from ratus.core.subscription import Subscription
from ratus.errors import Draining, Internal, NonceMismatch
from ratus.model import Commit, PollRequest, Promise, TaskInput, TaskState
from tests.core.conftest import MS, SECOND, Engine, claim, complete, ids, insert, next_of, quiet, soon


async def test_a_stream_delivers_what_is_there_and_what_comes(service: Service) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], consumer="me", timeout=SECOND, max_in_flight=10))
    tasks = await next_of(stream)
    assert ids(tasks) == ["1", "2"]
    assert all(t.state == TaskState.ACTIVE and t.consumer == "me" and t.nonce for t in tasks)
    assert all(t.deadline and t.consumed and t.deadline - t.consumed == SECOND for t in tasks)
    await insert(service, "3")
    assert ids(await next_of(stream)) == ["3"]
    stream.close()


@pytest.mark.parametrize("how", ["commit", "commit without a nonce", "upsert", "delete", "delete topic", "promise"])
async def test_a_full_window_claims_nothing_until_a_task_is_settled(service: Service, how: str) -> None:
    await insert(service, "1", "2", "3")
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=2))
    held = await next_of(stream)
    assert ids(held) == ["1", "2"]
    assert await quiet(stream)
    assert (await service.get_task("3")).state == TaskState.PENDING
    match how:
        case "commit":
            await complete(service, held[:1])
        case "commit without a nonce":
            await service.commit_task(Commit(id="1"))
        case "upsert":
            await service.upsert_task(TaskInput(id="1", topic="other"))
        case "delete":
            await service.delete_task("1")
        case "promise":
            await service.upsert_promise(Promise(id="1"))
        case "delete topic":
            await insert(service, "4", topic="other")
            await service.delete_topic("t")
            await insert(service, "3")
    assert ids(await next_of(stream)) == ["3"]
    stream.close()


async def test_a_commit_with_a_stale_nonce_settles_nothing(service: Service) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"]))
    await next_of(stream)
    with pytest.raises(NonceMismatch):
        await service.commit_task(Commit(id="1", nonce="stale"))
    assert await quiet(stream)
    stream.close()


async def test_a_passed_deadline_makes_room(service: Service) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], timeout=50 * MS))
    assert ids(await next_of(stream)) == ["1"]
    [task] = await next_of(stream)
    assert task.id == "2"
    assert task.consumed is not None
    stored = await service.get_task("1")
    assert stored.deadline is not None
    assert task.consumed >= stored.deadline
    stream.close()


async def test_the_bytes_of_a_window_are_bounded(service: Service) -> None:
    await insert(service, "1", "2", "3", payload=b'"' + b"x" * 98 + b'"')
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=10, max_bytes=250))
    held = await next_of(stream)
    assert ids(held) == ["1", "2"]
    assert await quiet(stream)
    assert ids(await claim(service)) == ["3"]  # it was given back for others
    await insert(service, "4", payload=b'"' + b"x" * 298 + b'"')
    assert await quiet(stream)
    await complete(service, held)
    assert ids(await next_of(stream)) == ["4"]  # one always passes
    stream.close()


async def test_nothing_is_claimed_for_a_stream_that_does_not_listen(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=10))
    assert await quiet(stream)
    await insert(service, "1")
    assert (await service.get_task("1")).state == TaskState.PENDING
    assert ids(await next_of(stream)) == ["1"]
    stream.close()


async def test_what_was_not_sent_is_released(service: Service) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=10))
    sent = await next_of(stream)
    await complete(service, sent[:1])
    stream.close(unsent=sent[1:])
    assert ids(await claim(service, wait=30 * SECOND)) == ["2"]


async def test_what_was_claimed_for_a_closed_stream_is_released(service: Service, engine: Engine) -> None:
    await insert(service, "1")
    stream = service.subscribe(PollRequest(topics=["t"]))
    engine.gate = asyncio.Event()
    listening = asyncio.create_task(stream.next())
    await engine.claimed.wait()
    listening.cancel()
    await asyncio.wait([listening])
    stream.close()
    engine.gate.set()
    assert ids(await claim(service, wait=30 * SECOND)) == ["1"]


@pytest.mark.parametrize("release", [True, False])
async def test_what_was_sent_is_released_on_close_if_asked_for(service: Service, release: bool) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=2, release_on_close=release))
    held = await next_of(stream)
    await complete(service, held[:1])
    stream.close()
    assert ids(await claim(service, wait=30 * SECOND if release else 100 * MS)) == (["2"] if release else [])


async def test_drain_leaves_what_was_sent_with_the_client(service: Service) -> None:
    await insert(service, "1")
    stream = service.subscribe(PollRequest(topics=["t"], release_on_close=True))
    held = await next_of(stream)
    service.drain()
    stream.close()
    await service.close()
    await complete(service, held)


async def test_a_stream_survives_a_storage_that_fails(service: Service, engine: Engine) -> None:
    await insert(service, "1")
    engine.failures = 2
    stream = service.subscribe(PollRequest(topics=["t"]))
    assert ids(await next_of(stream)) == ["1"]
    stream.close()


async def test_a_stream_survives_a_fault(
    service: Service, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claimer, "_LONGEST_PAUSE", 0.05)
    await insert(service, "1")
    engine.faults = 2
    stream = service.subscribe(PollRequest(topics=["t"]))
    assert ids(await next_of(stream)) == ["1"]
    assert sum(record.exc_info is not None for record in caplog.records) == 2
    engine.faults = 1
    with pytest.raises(Internal):
        await claim(service, wait=MS)
    assert await claim(service) == []
    stream.close()


async def test_streams_on_one_topic_get_tasks_in_turn(service: Service) -> None:
    streams = [service.subscribe(PollRequest(topics=["t"], max_in_flight=100)) for _ in range(5)]
    listening = [asyncio.create_task(next_of(stream)) for stream in streams]
    assert await claim(service) == []
    await insert(service, *map(str, range(20)))
    got = [await task for task in listening]
    assert [len(tasks) for tasks in got] == [4] * 5
    for stream in streams:
        stream.close()


async def test_a_quiet_topic_is_not_starved_by_a_busy_one(service: Service) -> None:
    await insert(service, *(f"busy-{n}" for n in range(1000)), topic="busy")
    stream = service.subscribe(PollRequest(topics=["busy", "quiet"], max_in_flight=1))
    await insert(service, *(f"quiet-{n}" for n in range(10)), topic="quiet")
    seen: list[str] = []
    for _ in range(20):
        tasks = await next_of(stream)
        seen += ids(tasks)
        await complete(service, tasks)
    assert sum(id.startswith("quiet") for id in seen) >= 8
    stream.close()


async def test_idle_streams_leave_the_storage_alone(service: Service, engine: Engine) -> None:
    streams = [service.subscribe(PollRequest(topics=["t", "u"], max_in_flight=5)) for _ in range(100)]
    listening = [asyncio.create_task(stream.next()) for stream in streams]
    assert await claim(service) == []
    assert await claim(service, "u") == []
    before = engine.claims
    await asyncio.sleep(0.2)
    assert engine.claims == before
    assert (await service.get_topic_stats("t")).waiting_consumers == 100
    for task, stream in zip(listening, streams, strict=True):
        task.cancel()
        await asyncio.wait([task])
        stream.close()
    assert (await service.get_topic_stats("t")).waiting_consumers == 0


async def test_many_streams_deliver_everything_once(service: Service) -> None:
    streams = [service.subscribe(PollRequest(topics=["t"], max_in_flight=7)) for _ in range(50)]
    seen: Counter[str] = Counter()
    finished = asyncio.Event()

    async def work(stream: Subscription) -> None:
        while True:
            tasks = await stream.next()
            seen.update(ids(tasks))
            await complete(service, tasks)
            if len(seen) == 5000:
                finished.set()

    workers = [asyncio.create_task(work(stream)) for stream in streams]
    for n in range(0, 5000, 500):
        await insert(service, *map(str, range(n, n + 500)))
    await soon(finished.wait())
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    for stream in streams:
        stream.close()
    assert seen == Counter(map(str, range(5000)))


async def test_consumers_without_room_do_not_stand_in_the_way(service: Service) -> None:
    payload = b'"' + b"x" * 58 + b'"'
    streams = [service.subscribe(PollRequest(topics=["t"], max_in_flight=5, max_bytes=100)) for _ in range(20)]
    await insert(service, *map(str, range(20)), payload=payload)
    for stream in streams:
        assert len(await next_of(stream)) == 1
    listening = [asyncio.create_task(stream.next()) for stream in streams]
    await service.get_topic_stats("t")
    await insert(service, "more", payload=payload)  # fits into no window
    assert ids(await claim(service, wait=30 * SECOND)) == ["more"]
    for task, stream in zip(listening, streams, strict=True):
        task.cancel()
        await asyncio.wait([task])
        stream.close()


async def test_what_a_drain_meets_in_the_storage_is_released(engine: Engine) -> None:
    service = Service(engine, Limits(), CollectorRegistry())
    await insert(service, "1")
    stream = service.subscribe(PollRequest(topics=["t"]))
    engine.gate = asyncio.Event()
    listening = asyncio.create_task(stream.next())
    await engine.claimed.wait()
    service.drain()
    with pytest.raises(Draining):
        await listening
    stream.close()
    closing = asyncio.create_task(service.close())
    await asyncio.sleep(0)
    engine.gate.set()
    await soon(closing)
    assert (await engine.get("1")).state == TaskState.PENDING
