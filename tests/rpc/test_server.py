"""The server: its port, health, reflection, and how it ends."""

import asyncio
import logging
import socket
import time
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from ratus.config import Listen
from ratus.core.service import Service
from ratus.errors import StartError
from ratus.http2 import listener
from ratus.rpc.server import RPCServer
from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1 import topic_service_pb2 as topics
from ratus.v1.task_pb2 import Task
from tests.rpc.serving import Client, Running, insert, run_server, waiting

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = ["", *(f"ratus.v1.{name}Service" for name in ("Task", "Topic", "Promise", "Server"))]


async def test_a_port_that_is_taken_is_one_line(
    running: Running, service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    server = RPCServer(service, Listen("127.0.0.1", running.port), CollectorRegistry())
    with pytest.raises(StartError) as caught:
        await server.start()
    assert str(caught.value) == f"cannot serve gRPC on 127.0.0.1:{running.port}: Address already in use"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("host", ["192.0.2.1", "name.invalid"])
async def test_an_address_that_is_not_ours_is_one_line(
    service: Service, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server = RPCServer(service, Listen(host, 50051), CollectorRegistry())
    with pytest.raises(StartError, match=f"^cannot serve gRPC on {host}:50051: [^\n]+$"):
        await server.start()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::"])
async def test_other_ways_to_name_this_machine(service: Service, host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = RPCServer(service, Listen(host, 0), CollectorRegistry())
    port = await server.start()
    async with Client(f"localhost:{port}") as client:
        assert (await client.health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
    await server.drain(1)


@pytest.mark.parametrize("name", SERVICES)
async def test_health_follows_what_the_server_is_told(running: Running, client: Any, name: str) -> None:
    async def check() -> Any:
        return (await client.health.Check(health_pb2.HealthCheckRequest(service=name))).status

    assert await check() == SERVING
    watch = client.health.Watch(health_pb2.HealthCheckRequest(service=name))
    assert (await watch.read()).status == SERVING
    running.server.set_serving(False)
    assert await check() == NOT_SERVING
    assert (await watch.read()).status == NOT_SERVING
    running.server.set_serving(True)
    assert (await watch.read()).status == SERVING
    listed = await client.health.List(health_pb2.HealthListRequest())
    assert listed.statuses[name].status == SERVING


async def test_health_is_no_until_told(service: Service) -> None:
    server = RPCServer(service, Listen("127.0.0.1", 0), CollectorRegistry())
    port = await server.start()
    async with Client(f"127.0.0.1:{port}") as client:
        assert (await client.health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
    await server.drain(1)


async def test_health_of_what_is_not_served(client: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.health.Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = client.health.Watch(health_pb2.HealthCheckRequest(service="other"))
    assert (await watch.read()).status == UNKNOWN


async def test_reflection_tells_the_services_and_their_files(client: Any) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)  # type: ignore[no-untyped-call]
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    assert {*SERVICES[1:], "grpc.health.v1.Health"} <= listed
    symbol = "ratus.v1.PromiseService"
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
    assert (await call.read()).file_descriptor_response.file_descriptor_proto
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def code_of(call: Any) -> grpc.StatusCode:
    """The code that a stream ends with, whatever is still to be read."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_draining_ends_streams_and_waits_and_refuses_new_calls(running: Running, client: Any) -> None:
    watch = client.health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    poll = client.promises.Poll(promises.PollRequest(topics=["t"]))
    claim = client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t", wait=Duration(seconds=60)))
    await waiting(client, "t", 2)
    async with asyncio.timeout(30):  # far less than the grace period: nothing holds the server up
        await running.stop(grace=60)
    assert (await watch.read()).status == NOT_SERVING
    assert await code_of(watch) == grpc.StatusCode.UNAVAILABLE
    assert await code_of(poll) == grpc.StatusCode.UNAVAILABLE
    [answer] = await asyncio.gather(claim, return_exceptions=True)
    if isinstance(answer, grpc.aio.AioRpcError):
        assert answer.details() == "service unavailable: connect elsewhere"
    else:  # the storage was being asked
        assert not answer.tasks
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.tasks.GetTask(tasks.GetTaskRequest(id="a"))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_drain_fails_no_call_that_was_sent_before_its_client_knew(
    running: Running, service: Service, client: Any
) -> None:
    stopped = asyncio.Event()

    async def call() -> None:
        request = tasks.UpsertTaskRequest(task=Task(id="a", topic="t"))
        await client.tasks.UpsertTask(request)
        begun.release()
        while not stopped.is_set():
            await client.tasks.UpsertTask(request, wait_for_ready=True, timeout=60)

    begun = asyncio.Semaphore(0)
    callers = [asyncio.ensure_future(call()) for _ in range(16)]
    for _ in callers:
        await begun.acquire()
    await running.stop(grace=60)
    async with run_server(service, CollectorRegistry(), running.port):
        stopped.set()
        await asyncio.gather(*callers)


async def test_calls_under_way_may_finish(running: Running, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    delete_topics = running.service.delete_topics

    async def slow() -> int:
        entered.set()
        await go_on.wait()
        return await delete_topics()

    monkeypatch.setattr(running.service, "delete_topics", slow)
    await insert(client, Task(id="a", topic="t"))
    call = asyncio.ensure_future(client.topics.DeleteTopics(topics.DeleteTopicsRequest()))
    await entered.wait()
    stop = asyncio.ensure_future(running.stop(grace=60))
    await asyncio.sleep(0)
    assert not stop.done()
    go_on.set()
    assert (await call).deleted == 1
    await stop


async def test_calls_that_outlast_the_grace_period_are_cancelled_and_waited_for(
    running: Running, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entered, ended = asyncio.Event(), []

    async def endless() -> int:
        entered.set()
        try:
            return await asyncio.Event().wait()
        finally:
            ended.append(True)

    monkeypatch.setattr(running.service, "delete_topics", endless)
    call = asyncio.ensure_future(client.topics.DeleteTopics(topics.DeleteTopicsRequest()))
    await entered.wait()
    with caplog.at_level(logging.WARNING):
        await running.stop(grace=0.1)
    assert ended
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert not caplog.records


async def test_who_is_silent_while_the_server_stands_still_is_asked_first(
    service: Service, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "KEEPALIVE", 0.5)
    monkeypatch.setattr(listener, "KEEPALIVE_TIMEOUT", 1.0)
    monkeypatch.setattr(listener, "_LOOK_INTERVAL", 0.1)
    async with run_server(service, registry) as running, Client(running.target) as client:
        poll = client.promises.Poll(promises.PollRequest(topics=["t"]))
        await waiting(client, "t", 1)
        time.sleep(2)  # noqa: ASYNC251  (nothing of the server runs)
        await asyncio.sleep(0.3)
        await insert(client, Task(id="1", topic="t"))
        assert [task.id for task in (await poll.read()).tasks] == ["1"]
        poll.cancel()
