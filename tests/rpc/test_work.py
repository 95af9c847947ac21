"""Work: tasks and notices out, commits, extensions and releases in, on one stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from ratus.core.service import Service
from ratus.rpc import batches
from ratus.rpc.work import MAX_UNDER_WAY
from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1.promise_pb2 import Extension, Promise, Release, Releases, Window
from ratus.v1.task_pb2 import TASK_STATE_ACTIVE, TASK_STATE_COMPLETED, TASK_STATE_PENDING, Commit, Task
from tests.rpc.serving import Client, Running, insert, waiting
from tests.rpc.working import ABORTED, INVALID_ARGUMENT, OK, Worker, codes, commits, stored


@pytest.fixture
async def worker(client: Client) -> AsyncIterator[Worker]:
    worker = await Worker(client).begin()
    yield worker
    worker.call.cancel()


async def test_a_worker_gets_tasks_and_commits_them(client: Client, worker: Worker) -> None:
    await insert(client, *(Task(id=str(n), topic="t", payload=b"1") for n in range(5)))
    held = await worker.receive(5)
    assert [task.id for task in held] == [str(n) for n in range(5)]
    results = await worker.ask(commit=commits(*held))
    assert results.status.code == OK
    assert codes(results.commit.results) == [OK] * 5
    assert (await stored(client, "4")).state == TASK_STATE_COMPLETED


async def test_each_entry_has_its_own_outcome(client: Client, worker: Worker) -> None:
    await insert(client, *(Task(id=str(n), topic="t") for n in range(3)))
    one, two, three = await worker.receive(3)
    request = commits(one, one, Task(id="2", nonce="stale"))
    request.return_tasks = True
    results = await worker.ask(commit=request)
    assert codes(results.commit.results) == [OK, ABORTED, ABORTED]
    assert results.commit.results[0].task.state == TASK_STATE_COMPLETED
    results = await worker.ask(
        extend=promises.ExtendPromisesRequest(
            extensions=[
                Extension(id=two.id, nonce=two.nonce, timeout=Duration(seconds=3600)),
                Extension(id="0", nonce="x"),
            ]
        )
    )
    assert codes(results.extend.results) == [OK, ABORTED]
    assert (await stored(client, two.id)).deadline.ToMilliseconds() > two.deadline.ToMilliseconds() + 1_000_000
    release = Releases(releases=[Release(id=three.id, nonce=three.nonce), Release(id=three.id, nonce=three.nonce)])
    results = await worker.ask(release=release)
    assert codes(results.release.results) == [OK, ABORTED]
    [again] = await worker.receive(1)
    assert (again.id, again.nonce != three.nonce) == (three.id, True)


async def test_a_malformed_message_fails_alone(client: Client, worker: Worker) -> None:
    await insert(client, Task(id="1", topic="t"))
    held = await worker.receive(1)
    bad = commits(*held)
    bad.commits.append(tasks.CommitTaskRequest(id="2", commit=Commit(payload=b"{")))
    results = await worker.ask(commit=bad)
    assert results.status.code == INVALID_ARGUMENT
    assert "commits[1].payload" in results.status.message
    assert (await stored(client, "1")).state == TASK_STATE_ACTIVE
    for request in (
        {},
        {"start": worker.start},
        {"window": Window(max_in_flight=10_001)},
        {"extend": promises.ExtendPromisesRequest(extensions=[Extension(id="1")])},
    ):
        assert (await worker.ask(**request)).status.code == INVALID_ARGUMENT
    assert (await worker.ask(commit=commits(*held))).status.code == OK


@pytest.mark.parametrize(
    "first",
    [
        {"window": Window(max_in_flight=1)},
        {},
        {"start": promises.PollRequest()},
        {"start": promises.PollRequest(topics=["t"], timeout=Duration(seconds=-1))},
        {"start": promises.PollRequest(topics=["t"], heartbeat=Duration(seconds=0, nanos=5))},
    ],
)
async def test_a_stream_begins_with_a_start(client: Client, first: dict[str, Any]) -> None:
    call = client.promises.Work()
    await call.write(promises.WorkRequest(sequence=1, **first))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_window_can_be_changed(client: Client) -> None:
    worker = await Worker(client, max_in_flight=1).begin()
    await insert(client, *(Task(id=str(n), topic="t") for n in range(6)))
    held = await worker.receive(1)
    assert (await worker.ask(window=Window(max_in_flight=4))).status.code == OK
    held += await worker.receive(3)
    assert (await worker.ask(window=Window(max_in_flight=1))).status.code == OK
    await worker.ask(commit=commits(*held[:3]))
    assert (await stored(client, "4")).state == TASK_STATE_PENDING
    await worker.ask(commit=commits(*held[3:]))
    assert [task.id for task in await worker.receive(1)] == ["4"]
    worker.call.cancel()


@pytest.mark.parametrize("how", ["upsert", "delete", "promise", "release elsewhere", "deadline"])
async def test_a_worker_is_told_what_it_has_lost(client: Client, how: str) -> None:
    timeout = Duration(nanos=50_000_000) if how == "deadline" else None
    worker = await Worker(client, timeout=timeout).begin()
    await insert(client, Task(id="1", topic="t"))
    await worker.receive(1)
    match how:
        case "upsert":
            await client.tasks.UpsertTask(tasks.UpsertTaskRequest(task=Task(id="1", topic="u")))
        case "delete":
            await client.tasks.DeleteTask(tasks.DeleteTaskRequest(id="1"))
        case "promise":
            await client.promises.UpsertPromise(promises.UpsertPromiseRequest(promise=Promise(id="1")))
        case "release elsewhere":
            await client.promises.DeletePromise(promises.DeletePromiseRequest(id="1"))
    while not worker.lost:
        await worker.read()
    assert worker.lost == ["1"]
    worker.call.cancel()


async def test_many_messages_are_under_way_at_once_and_in_order(client: Client, worker: Worker) -> None:
    await worker.ask(window=Window(max_in_flight=1000))
    await insert(client, *(Task(id=str(n), topic="t") for n in range(500)))
    held = await worker.receive(500)
    asked = [await worker.say(commit=commits(task)) for task in held]
    # The second commit of a task comes after the first one, so the first one is the one that counts.
    again = [await worker.say(commit=commits(task, topic="wrong")) for task in held]
    assert len(asked) > MAX_UNDER_WAY
    assert {codes((await worker.answer(sequence)).commit.results)[0] for sequence in asked} == {OK}
    assert {codes((await worker.answer(sequence)).commit.results)[0] for sequence in again} == {ABORTED}


async def test_a_silent_stream_has_heartbeats(client: Client) -> None:
    worker = await Worker(client, heartbeat=Duration(seconds=1)).begin()
    while worker.heartbeats < 2:
        await worker.read()
    worker.call.cancel()
    call = client.promises.Poll(promises.PollRequest(topics=["u"], heartbeat=Duration(seconds=1)))
    assert (await call.read()).tasks == []
    await insert(client, Task(id="1", topic="u"))
    while not (answer := await call.read()).tasks:
        pass
    assert [task.id for task in answer.tasks] == ["1"]
    call.cancel()


async def test_a_worker_that_has_said_all_gets_its_answers_and_no_more_tasks(client: Client, worker: Worker) -> None:
    await insert(client, *(Task(id=str(n), topic="t") for n in range(20)))
    held = await worker.receive(10)
    asked = [await worker.say(commit=commits(task)) for task in held[:5]]
    await worker.call.done_writing()
    while not all(sequence in worker.results for sequence in asked):
        await worker.read()
    while (message := await asyncio.wait_for(worker.call.read(), 30)) is not grpc.aio.EOF:
        held += message.tasks.tasks
    assert await worker.call.code() == grpc.StatusCode.OK
    await waiting(client, "t", 0)
    delivered = {task.id for task in held + worker.tasks}
    for n in range(20):  # what was not delivered was given back
        state = (await stored(client, str(n))).state
        assert state == (TASK_STATE_PENDING if str(n) not in delivered else state)
        assert state != TASK_STATE_COMPLETED or str(n) in {task.id for task in held[:5]}


@pytest.mark.parametrize("release", [True, False])
async def test_a_worker_that_goes_away(client: Client, release: bool) -> None:
    worker = await Worker(client, release_on_close=release).begin()
    await insert(client, Task(id="1", topic="t"), Task(id="2", topic="t"))
    one, _ = await worker.receive(2)
    await worker.say(commit=commits(one))
    await worker.answer(2)
    worker.call.cancel()
    await waiting(client, "t", 0)
    claim = promises.ClaimTasksRequest(topic="t", wait=Duration(seconds=30 if release else 0), limit=5)
    claimed = await client.promises.ClaimTasks(claim)
    assert [task.id for task in claimed.tasks] == (["2"] if release else [])
    assert (await stored(client, "1")).state == TASK_STATE_COMPLETED


async def test_what_was_said_before_going_away_is_carried_out(client: Client, worker: Worker) -> None:
    await insert(client, *(Task(id=str(n), topic="t") for n in range(10)))
    held = await worker.receive(10)
    last = await worker.say(commit=commits(*held))
    await worker.answer(last)
    for task in held:
        await worker.say(commit=commits(Task(id=task.id), state=TASK_STATE_PENDING, topic="later"))
    sync = await worker.say(window=Window(max_in_flight=5))  # once this is read, so are those before it
    await worker.answer(sync)
    worker.call.cancel()
    async with asyncio.timeout(30):
        for task in held:
            while (await stored(client, task.id)).topic != "later":
                pass


@pytest.mark.parametrize("grace", [60, 0.1])
async def test_a_server_ends_after_what_was_said(
    client: Client, running: Running, worker: Worker, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    entered, go_on, outcomes = asyncio.Event(), asyncio.Event(), []
    commit_tasks = running.service.commit_tasks

    async def slow(*given: Any) -> Any:
        entered.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            outcomes.append("stopped")
            raise
        results = await commit_tasks(*given)
        outcomes.append("carried out")
        return results

    monkeypatch.setattr(running.service, "commit_tasks", slow)
    await insert(client, Task(id="1", topic="t"))
    held = await worker.receive(1)
    await worker.say(commit=commits(*held))
    await entered.wait()
    worker.call.cancel()
    await waiting(client, "t", 0)
    stopping = asyncio.create_task(running.stop(grace))
    if grace > 1:
        done, _ = await asyncio.wait([stopping], timeout=0.1)
        assert not done
        go_on.set()
    await stopping
    assert outcomes == ["carried out" if grace > 1 else "stopped"]


async def test_a_drain_answers_what_is_under_way(client: Client, running: Running, service: Service) -> None:
    worker = await Worker(client).begin()
    await insert(client, Task(id="1", topic="t"))
    held = await worker.receive(1)
    asked = await worker.say(commit=commits(*held))
    await worker.answer(asked)
    stopping = asyncio.create_task(running.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while True:
            await worker.read()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "service unavailable" in (caught.value.details() or "")
    await stopping
    assert (await service.get_task("1")).state == 2


async def test_a_client_that_never_stops_does_not_hold_up_a_drain(
    client: Client, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_now = batches.commit

    async def commit_later(*given: Any) -> Any:
        await asyncio.sleep(0.1)
        return await commit_now(*given)

    monkeypatch.setattr(batches, "commit", commit_later)
    worker = await Worker(client).begin()
    commit = commits(Task(id="1", nonce="n" * 16))

    async def speak() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await worker.say(commit=commit)

    async def listen() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                await worker.read()

    talk = asyncio.gather(speak(), listen())
    while len(worker.results) < 10:  # noqa: ASYNC110 (the reader tells nobody)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(30):  # far less than the grace period
        await running.stop(grace=60)
    await talk


async def test_streams_that_end_leave_nothing_behind(client: Client) -> None:
    workers = [await Worker(client).begin() for _ in range(200)]
    await waiting(client, "t", 200)
    for worker in workers:
        worker.call.cancel()
    await waiting(client, "t", 0)
    await insert(client, Task(id="1", topic="t"))
    assert (await stored(client, "1")).state == TASK_STATE_PENDING
