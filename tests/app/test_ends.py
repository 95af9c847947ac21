"""Streams whose client, server or database comes to an end, as real processes."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration
from pymongo.errors import PyMongoError

from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1.promise_pb2 import Extension
from ratus.v1.task_pb2 import TASK_STATE_ACTIVE, TASK_STATE_PENDING, Commit, Task
from tests.app.conftest import Start
from tests.mongod import Mongod, find_mongod, replica_set
from tests.rpc.serving import Client, insert, waiting
from tests.server import Server

ON_DISK = pytest.mark.parametrize("engine_args", ["sqlite"], indirect=True)
SHARED = pytest.mark.parametrize("engine_args", ["mongodb"], indirect=True)
HOUR_MS = 3_600_000


@contextlib.contextmanager
def holder(
    server: Server, max_in_flight: int, timeout_ms: int, release: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """A client process that holds tasks."""
    options = [server.target, "t", str(max_in_flight), str(timeout_ms), str(release)]
    command = [sys.executable, "-m", "tests.app.holder", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    """The next IDs that the client prints."""
    stdout = process.stdout
    assert stdout is not None
    return [(await asyncio.to_thread(stdout.readline)).strip() for _ in range(count)]


async def claim(client: Any, seconds: float, limit: int = 100) -> list[str]:
    wait = Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
    request = promises.ClaimTasksRequest(topic="t", limit=limit, wait=wait)
    return [task.id for task in (await client.promises.ClaimTasks(request)).tasks]


def numbered(count: int) -> list[Task]:
    return [Task(id=f"{n:04}", topic="t", payload=b"1") for n in range(count)]


@ON_DISK
@pytest.mark.parametrize("release", [True, False])
async def test_a_client_that_is_killed(start: Start, engine_args: list[str], release: bool) -> None:
    server = start(*engine_args, "--chore-interval", "1h")
    async with Client(server.target) as client:
        await insert(client, *numbered(3))
        with holder(server, 2, HOUR_MS, release) as process:
            assert await lines(process, 2) == ["0000", "0001"]
            process.send_signal(signal.SIGKILL)
            await ended(server, "Poll")
        if release:
            assert await claim(client, 30) == ["0000", "0001", "0002"]
            return
        assert await claim(client, 0) == ["0002"]
        soon = await shorten(client, ["0000", "0001"])
        request = promises.ClaimTasksRequest(topic="t", limit=10, wait=Duration(seconds=30))
        again: list[Task] = []
        while len(again) < 2:
            again += (await client.promises.ClaimTasks(request)).tasks
        assert sorted(task.id for task in again) == ["0000", "0001"]
        assert all(task.consumed.ToMilliseconds() > soon[task.id] for task in again)


async def ended(server: Server, method: str) -> None:
    """Return once a call of this method has ended, as the metrics tell."""
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as rest, asyncio.timeout(30):
        while not re.search(
            rf'^grpc_server_handled_total{{.*grpc_method="{method}".*}} 1\.0$', (await rest.get("/metrics")).text, re.M
        ):
            pass


async def shorten(client: Any, ids: list[str]) -> dict[str, int]:
    """Set the deadlines of what is held to a moment from now; those deadlines, in milliseconds."""
    held = [(await client.tasks.GetTask(tasks.GetTaskRequest(id=id))).task for id in ids]
    extensions = [Extension(id=task.id, nonce=task.nonce, timeout=Duration(nanos=300_000_000)) for task in held]
    before = time.time_ns() // 1_000_000
    results = await client.promises.ExtendPromises(promises.ExtendPromisesRequest(extensions=extensions))
    assert [result.status.code for result in results.results] == [0] * len(ids)
    return dict.fromkeys(ids, before + 300)


@ON_DISK
async def test_a_client_that_is_frozen_slows_nobody_else(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args, "--chore-interval", "1h")
    payload = b'"' + b"x" * 100_000 + b'"'
    async with Client(server.target) as client:
        with holder(server, 10_000, 3000) as process:
            await insert(client, Task(id="first", topic="t"))
            assert await lines(process, 1) == ["first"]
            process.send_signal(signal.SIGSTOP)
            memory = psutil.Process(server.process.pid)
            seen: set[str] = set()
            for batch in range(20):
                await insert(client, *(Task(id=f"{batch}-{n}", topic="t", payload=payload) for n in range(20)))
                seen.update(await claim(client, 0))
            # What the frozen client was sent before its connection was full comes back at its deadline.
            async with asyncio.timeout(60):
                while len(seen) < 401:
                    seen.update(await claim(client, 5))
            assert memory.memory_info().rss < 400 * 2**20


async def deliveries(target: str, window: int) -> AsyncIterator[Task]:
    """What a stream delivers; ends with the error of the stream."""
    async with Client(target) as client:
        async for answer in client.promises.Poll(promises.PollRequest(topics=["t"], max_in_flight=window)):
            for task in answer.tasks:
                yield task


async def commit(client: Any, task: Task) -> None:
    """Commit until it is known to be applied."""
    request = tasks.CommitTaskRequest(id=task.id, commit=Commit(nonce=task.nonce))
    while True:
        try:
            await client.tasks.CommitTask(request)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.ABORTED:
                return  # applied by an attempt whose answer was lost, or executed by another one since
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        else:
            return


async def produce(client: Any, ids: list[str]) -> None:
    """Insert tasks one by one until each is known to be stored."""
    for id in ids:
        while True:
            try:
                await client.tasks.InsertTask(tasks.InsertTaskRequest(task=Task(id=id, topic="t")))
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.ALREADY_EXISTS:
                    break
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            else:
                break


@SHARED
async def test_consumers_go_on_with_another_server(start: Start, engine_args: list[str]) -> None:
    first, second = start(*engine_args), start(*engine_args)
    ids = [f"{n:04}" for n in range(600)]
    seen: Counter[str] = Counter()
    half, done = asyncio.Event(), asyncio.Event()
    ends: list[grpc.StatusCode] = []

    async def consume() -> None:
        async with Client(second.target) as other:
            for target in (first.target, second.target):
                try:
                    async for task in deliveries(target, 5):
                        seen[task.id] += 1
                        await commit(other, task)  # whichever server it reaches
                        if len(seen) >= 200:
                            half.set()
                        if len(seen) == len(ids):
                            done.set()
                except grpc.aio.AioRpcError as error:
                    ends.append(error.code())

    consumers = [asyncio.create_task(consume()) for _ in range(4)]
    async with Client(second.target) as client, asyncio.timeout(60):
        producing = asyncio.create_task(produce(client, ids))
        await half.wait()
        assert await asyncio.to_thread(first.stop) == 0
        await producing
        await done.wait()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.wait(consumers)
    assert ends == [grpc.StatusCode.UNAVAILABLE] * 4
    assert set(seen.values()) == {1}  # a drain leaves what was delivered with the client


@SHARED
async def test_tasks_of_a_killed_server_come_back(start: Start, engine_args: list[str]) -> None:
    first, second = start(*engine_args), start(*engine_args, "--chore-interval", "1s")
    async with Client(second.target) as client:
        await insert(client, *numbered(2))
        with holder(first, 2, 2000, release=True) as process:
            assert await lines(process, 2) == ["0000", "0001"]
            first.kill()
            got: list[str] = []
            async with asyncio.timeout(60):
                while len(got) < 2:
                    got += await claim(client, 5)
            assert sorted(got) == ["0000", "0001"]


@SHARED
async def test_a_window_has_room_once_another_server_has_the_commit(start: Start, engine_args: list[str]) -> None:
    first, second = start(*engine_args), start(*engine_args)
    async with Client(first.target) as here, Client(second.target) as there:
        await insert(here, *numbered(3))
        stream = here.promises.Poll(promises.PollRequest(topics=["t"]))
        for n in range(3):
            [task] = (await asyncio.wait_for(stream.read(), 30)).tasks
            assert task.id == f"{n:04}"
            await commit(there, task)
        stream.cancel()


@pytest.mark.timeout(300)
async def test_a_failover_is_a_pause(start: Start, mongod: Mongod) -> None:
    find_mongod()
    with replica_set(3) as members:
        uri = f"mongodb://{','.join(member.address for member in members)}/?replicaSet={members[0].replica_set}"
        server = start("--engine", "mongodb", "--mongodb-uri", uri)
        ids = [f"{n:04}" for n in range(2000)]
        seen: set[str] = set()
        some, done = asyncio.Event(), asyncio.Event()

        async def consume() -> None:
            async with Client(server.target) as client:
                async for task in deliveries(server.target, 20):
                    await commit(client, task)
                    seen.add(task.id)
                    if len(seen) >= 300:
                        some.set()
                    if len(seen) == len(ids):
                        done.set()

        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        async with Client(server.target) as client, asyncio.timeout(200):
            producers = [asyncio.create_task(produce(client, ids[n::4])) for n in range(4)]
            await some.wait()
            primary = next(member for member in members if member.client.admin.command("hello")["isWritablePrimary"])
            with contextlib.suppress(PyMongoError):  # the connection may be closed by what was asked for
                await asyncio.to_thread(
                    primary.client.admin.command, {"replSetStepDown": 20, "secondaryCatchUpPeriodSecs": 10}
                )
            await asyncio.gather(*producers)
            await done.wait()
        assert not any(consumer.done() for consumer in consumers)  # the streams have noticed nothing
        for consumer in consumers:
            consumer.cancel()
        await asyncio.wait(consumers)


@ON_DISK
async def test_streams_leave_nothing_behind(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)
    process = psutil.Process(server.process.pid)
    request = promises.PollRequest(topics=["t"])
    async with Client(server.target) as client:

        async def open_and_cancel(count: int) -> None:
            calls = []
            for _ in range(count // 2):
                worker = client.promises.Work()
                await worker.write(promises.WorkRequest(start=request))
                calls += [worker, client.promises.Poll(request)]
            await waiting(client, "t", len(calls))
            for call in calls:
                call.cancel()
            await waiting(client, "t", 0)

        for _ in range(3):
            await open_and_cancel(200)
        before = process.memory_info().rss
        for _ in range(10):
            await open_and_cancel(200)
        assert process.memory_info().rss - before < 10 * 2**20
        await insert(client, Task(id="1", topic="t"))
        task = (await client.tasks.GetTask(tasks.GetTaskRequest(id="1"))).task
        assert task.state == TASK_STATE_PENDING != TASK_STATE_ACTIVE


@ON_DISK
async def test_a_claim_is_repeated_after_a_restart(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)
    request = promises.ClaimTasksRequest(topic="t", consumer="c", limit=2, request_id="r")
    async with Client(server.target) as client:
        await insert(client, *numbered(4))
        first = (await client.promises.ClaimTasks(request)).tasks
        assert [task.id for task in first] == ["0000", "0001"]
    server.kill()
    server.start()
    async with Client(server.target) as client:
        again = (await client.promises.ClaimTasks(request)).tasks
        assert [(task.id, task.nonce) for task in again] == [(task.id, task.nonce) for task in first]
        request.limit = 3
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.promises.ClaimTasks(request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
