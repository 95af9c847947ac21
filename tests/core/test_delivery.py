"""Delivery to consumers of one process."""

import asyncio
import time
from collections import Counter
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from ratus import times
from ratus.config import MAX_ANSWER_BYTES, Limits
from ratus.core import claimer, delivery
from ratus.core.service import Service
from ratus.core.subscription import Subscription
from ratus.errors import Draining, Internal, NonceMismatch, StorageUnavailable
from ratus.model import Commit, PollRequest, Promise, TaskInput, TaskState
from tests.core.conftest import Engine, claim, complete, ids, insert, next_of, quiet, soon

MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)


# Claims


async def test_a_claim_of_nothing_is_empty_at_once(service: Service) -> None:
    assert await claim(service) == []
    assert await claim(service, limit=100) == []


async def test_a_claim_gets_up_to_its_limit_in_order(service: Service) -> None:
    await insert(service, *(f"{n:04}" for n in range(500)))
    assert ids(await claim(service, limit=300)) == [f"{n:04}" for n in range(300)]
    assert ids(await claim(service, limit=1000)) == [f"{n:04}" for n in range(300, 500)]


async def test_concurrent_claims_share_what_there_is(service: Service, engine: Engine) -> None:
    await insert(service, *map(str, range(50)))
    results = await asyncio.gather(*(claim(service) for _ in range(80)))
    assert sorted(int(task.id) for tasks in results for task in tasks) == list(range(50))
    assert Counter(map(len, results)) == {1: 50, 0: 30}
    assert engine.claims < 10  # gathered


async def test_a_task_goes_to_whom_it_is_promised(service: Service, engine: Engine) -> None:
    engine.passed_over = 1
    await insert(service, "1")
    first, second = await asyncio.gather(claim(service, consumer="first"), claim(service, consumer="second"))
    assert first == []
    assert [task.consumer for task in second] == ["second"]


async def test_a_waiting_claim_wakes_for_an_insert(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service) == []  # by now the other one waits
    await insert(service, "1")
    assert ids(await soon(waiting)) == ["1"]


@pytest.mark.parametrize("how", ["commit", "upsert", "delete promise", "delete promises", "recover", "move"])
async def test_a_waiting_claim_wakes_for_what_becomes_pending(service: Service, how: str) -> None:
    await insert(service, "1")
    [held] = await claim(service, deadline=times.now() - SECOND if how == "recover" else None)
    if how == "move":
        await service.commit_task(Commit(id="1", topic="elsewhere", state=0))
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service) == []
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
    assert await claim(service) == []
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
    await insert(service, "1", defer=150 * MS)
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service) == []
    await service.insert_promise(Promise(id="1"))  # before its time
    await service.delete_promise("1")
    [task] = await soon(waiting)
    assert task.consumed is not None
    assert task.consumed >= task.scheduled


async def test_a_waiting_claim_of_many_is_answered_with_the_first(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, limit=10, wait=30 * SECOND))
    assert await claim(service) == []
    await insert(service, "1")
    assert ids(await soon(waiting)) == ["1"]


async def test_a_wait_ends_empty(service: Service) -> None:
    begin = time.monotonic()
    assert await soon(claim(service, wait=50 * MS)) == []
    assert time.monotonic() - begin >= 0.05


async def test_a_cancelled_wait_takes_no_task(service: Service) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service) == []
    waiting.cancel()
    await asyncio.wait([waiting])
    await insert(service, "1")
    assert (await service.get_task("1")).state == TaskState.PENDING
    assert ids(await claim(service)) == ["1"]


@pytest.mark.parametrize("merges", [False, True])
async def test_what_was_claimed_for_a_cancelled_call_is_released(
    service: Service, engine: Engine, merges: bool
) -> None:
    engine.merges_claims = merges
    await insert(service, "1")
    engine.gate = asyncio.Event()
    waiting = asyncio.create_task(claim(service))
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
    assert await claim(service) == []
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


# Streams


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
        await claim(service)
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


# Tasks that are inserted while consumers wait for them


async def test_a_waiting_consumer_gets_a_new_task_without_a_claim(service: Service, engine: Engine) -> None:
    stream = service.subscribe(PollRequest(topics=["t"], consumer="me", timeout=SECOND))
    listening = asyncio.create_task(stream.next())
    assert await claim(service) == []
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
    assert await claim(service) == []
    await insert(service, "1", "3", "2", "4")
    assert ids(await soon(listening)) == ["3", "4"]
    assert (await service.get_task("1")).state == TaskState.PENDING
    stream.close()
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service) == []
    await insert(service, "1")
    await insert(service, "5")
    assert ids(await soon(waiting)) == ["5"]


async def test_only_what_is_due_is_handed_over(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=5))
    listening = asyncio.create_task(stream.next())
    assert await claim(service) == []
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
    assert await claim(service) == []
    await service.get_topic_stats("t")
    inserting = asyncio.create_task(insert(service, "1"))
    await asyncio.sleep(0)  # the insert is on its way
    inserting.cancel()
    await asyncio.wait([inserting])
    assert ids(await soon(waiting)) == ["1"]


async def test_what_was_inserted_for_a_stream_that_has_gone_is_released(service: Service) -> None:
    stream = service.subscribe(PollRequest(topics=["t"]))
    listening = asyncio.create_task(stream.next())
    assert await claim(service) == []
    inserting = asyncio.create_task(insert(service, "1"))
    await asyncio.sleep(0)
    listening.cancel()
    stream.close()
    await inserting
    assert ids(await claim(service, wait=30 * SECOND)) == ["1"]


async def test_an_insert_that_fails_leaves_nobody_waiting(service: Service, engine: Engine) -> None:
    waiting = asyncio.create_task(claim(service, wait=30 * SECOND))
    assert await claim(service) == []
    engine.insert_failures = 1
    with pytest.raises(StorageUnavailable):
        await insert(service, "1")  # stored, but its answer was lost
    assert ids(await soon(waiting)) == ["1"]
    assert await claim(service) == []


async def test_a_task_that_comes_twice_in_a_batch_is_handed_over_once(service: Service) -> None:
    waiting = [asyncio.create_task(claim(service, wait=30 * SECOND)) for _ in range(2)]
    assert await claim(service) == []
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
