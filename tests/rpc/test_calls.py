"""What happens around every call: malformed and oversized messages, faults, metrics."""

import asyncio
import gc
import logging
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from ratus.config import MAX_REQUEST_BYTES
from ratus.errors import RatusError
from ratus.rpc.call import Call
from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1.task_pb2 import Task
from tests.rpc.serving import Running, waiting


async def fails(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


MALFORMED = [
    b"\xff\xff\xff",
    b"\x0a\xff",  # a length beyond the end
    b"\x0a\x04\x0a\x02\xc3\x28",  # an ID that is not UTF-8
    b"\x0a\x05\x0a\x03\xed\xa0\x80",  # an ID that is a lone surrogate
]


@pytest.mark.parametrize("message", MALFORMED)
@pytest.mark.parametrize(
    "method", ["TaskService/InsertTask", "TaskService/UpsertTasks", "PromiseService/InsertPromise"]
)
async def test_malformed_messages_are_bad_requests(client: Any, method: str, message: bytes) -> None:
    error = await fails(client.channel.unary_unary(f"/ratus.v1.{method}")(message))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "BAD_REQUEST"
    assert not (await client.tasks.ListTasks(tasks.ListTasksRequest())).tasks


async def test_malformed_messages_on_a_stream_are_bad_requests(client: Any) -> None:
    call = client.channel.unary_stream("/ratus.v1.PromiseService/Poll")(b"\xff\xff\xff")
    error = await fails(call.read())
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "BAD_REQUEST"


async def test_empty_messages_are_requests_without_fields(client: Any) -> None:
    error = await fails(client.channel.unary_unary("/ratus.v1.TaskService/InsertTask")(b""))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "bad request: task ID must not be empty",
    )


def insert_of(size: int) -> bytes:
    """A request of so many bytes; fields that nobody knows are ignored, but they count."""
    request = tasks.InsertTaskRequest(task=Task(id="big", topic="t")).SerializeToString()
    padding = size - len(request) - 6
    return (
        request
        + b"\xfa\x01"
        + bytes([padding & 0x7F | 0x80, padding >> 7 & 0x7F | 0x80, padding >> 14 & 0x7F | 0x80, padding >> 21])
        + b"x" * padding
    )


async def test_requests_up_to_the_bound_are_served(client: Any) -> None:
    answer = await client.channel.unary_unary("/ratus.v1.TaskService/InsertTask")(insert_of(MAX_REQUEST_BYTES))
    assert tasks.InsertTaskResponse.FromString(answer).created == 1


@pytest.mark.parametrize("size", [MAX_REQUEST_BYTES + 1, 2 * MAX_REQUEST_BYTES, 4 * MAX_REQUEST_BYTES])
async def test_requests_beyond_the_bound_are_too_large(client: Any, size: int) -> None:
    error = await fails(client.channel.unary_unary("/ratus.v1.TaskService/InsertTask")(insert_of(size)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(error) == "TOO_LARGE"
    assert str(MAX_REQUEST_BYTES) in (error.details() or "")
    assert not (await client.tasks.ListTasks(tasks.ListTasksRequest())).tasks


@pytest.mark.parametrize("method", ["ratus.v1.TaskService/Nope", "ratus.v1.Nope/GetTask", "nope"])
async def test_unknown_methods_are_unimplemented(client: Any, method: str) -> None:
    error = await fails(client.channel.unary_unary(f"/{method}")(b""))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_faults_say_nothing_to_the_client_and_all_to_the_log(
    running: Running, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fault(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(running.service, "get_task", fault)
    with caplog.at_level(logging.ERROR):
        error = await fails(client.tasks.GetTask(tasks.GetTaskRequest(id="a")))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal server error")
    assert reason(error) == "INTERNAL"
    assert "ZeroDivisionError: secret" in caplog.text
    assert "ratus.rpc" in caplog.records[0].name


async def test_a_failure_is_counted_before_the_client_knows_of_it(
    client: Any, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[float | None] = []
    fail = Call.fail

    def watched(call: Call, error: RatusError) -> None:
        labels = {"grpc_type": "unary", "grpc_service": "ratus.v1.TaskService", "grpc_method": "GetTask"}
        counted.append(registry.get_sample_value("grpc_server_handled_total", {**labels, "grpc_code": "NotFound"}))
        fail(call, error)

    monkeypatch.setattr(Call, "fail", watched)
    await fails(client.tasks.GetTask(tasks.GetTaskRequest(id="a")))
    assert counted == [1]


async def test_metrics(client: Any, registry: CollectorRegistry) -> None:
    def value(name: str, method: str, **labels: str) -> float | None:
        service = {"Poll": "PromiseService", "ClaimTasks": "PromiseService"}.get(method, "TaskService")
        type = "server_stream" if method == "Poll" else "unary"
        every = {"grpc_type": type, "grpc_service": f"ratus.v1.{service}", "grpc_method": method, **labels}
        return registry.get_sample_value(name, every)

    await client.tasks.InsertTask(tasks.InsertTaskRequest(task=Task(id="a", topic="t")))
    await fails(client.tasks.InsertTask(tasks.InsertTaskRequest(task=Task(id="a", topic="t"))))
    await fails(client.channel.unary_unary("/ratus.v1.TaskService/InsertTask")(b"\xff"))
    assert value("grpc_server_started_total", "InsertTask") == 3
    assert value("grpc_server_handled_total", "InsertTask", grpc_code="OK") == 1
    assert value("grpc_server_handled_total", "InsertTask", grpc_code="AlreadyExists") == 1
    assert value("grpc_server_handled_total", "InsertTask", grpc_code="InvalidArgument") == 1
    assert value("grpc_server_handling_seconds_count", "InsertTask") == 3
    assert value("grpc_server_handling_seconds_bucket", "InsertTask", le="5.0") == 3
    stream = client.promises.Poll(promises.PollRequest(topics=["other"]))
    await waiting(client, "other", 1)
    assert value("grpc_server_started_total", "Poll") == 1
    assert value("grpc_server_handling_seconds_count", "Poll") == 0
    stream.cancel()
    await waiting(client, "other", 0)
    assert value("grpc_server_handled_total", "Poll", grpc_code="Canceled") == 1
    claim = promises.ClaimTasksRequest(topic="other")
    claim.wait.FromSeconds(60)
    while not value("grpc_server_handled_total", "ClaimTasks", grpc_code="DeadlineExceeded"):
        # On a busy machine its time may be over before the server has seen it.
        assert (await fails(client.promises.ClaimTasks(claim, timeout=0.1))).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await waiting(client, "other", 0)


async def test_calls_that_have_ended_are_not_left_to_the_collector(client: Any) -> None:
    poll = promises.PollRequest(topics=["t"])
    claim = promises.ClaimTasksRequest(topic="t", wait={"seconds": 60})
    gc.collect()  # what other tests have left
    gc.disable()
    try:
        work = client.promises.Work()
        await work.write(promises.WorkRequest(start=poll))
        calls = [work, client.promises.Poll(poll), client.promises.ClaimTasks(claim)]
        await waiting(client, "t", len(calls))
        for call in calls:
            call.cancel()
        await waiting(client, "t", 0)
        await fails(client.promises.ClaimTasks(claim, timeout=0.1))
        await fails(client.tasks.GetTask(tasks.GetTaskRequest(id="a")))
        async with asyncio.timeout(30):
            while any(isinstance(thing, Call) for thing in gc.get_objects()):  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)
    finally:
        gc.enable()
