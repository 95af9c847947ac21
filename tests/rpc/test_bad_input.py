"""Bad input: each gets the contract's error with its reason and field, and nothing is changed."""

from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1 import topic_service_pb2 as topics
from ratus.v1.promise_pb2 import Extension, Promise
from ratus.v1.task_pb2 import Commit, Task

LONG = "x" * 1025
LONG_BYTES = "ü" * 513
PAST_9999 = Duration(seconds=99_999_999 * 3600)
NO_DURATION = Duration(seconds=1, nanos=-1)
NO_TIME = Timestamp(seconds=2**62)
BROKEN = [
    b"{",
    b"'a'",
    b"NaN",
    b"1e400",
    b"-1e400",
    b'"\xff"',
    b'"\\ud800"',
    b'{"\\udfff":1}',
    b'{"a\\u0000":1}',
    b"[" * 10_000 + b"]" * 10_000,
    b"[" * 101 + b"]" * 101,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b"1 2",
    b"\xef\xbb\xbf1",
]


def bad_tasks() -> Iterable[tuple[Task, str]]:
    """Tasks, and the field that is wrong."""
    yield Task(topic="t"), "id"
    yield Task(id=LONG, topic="t"), "id"
    yield Task(id=LONG_BYTES, topic="t"), "id"
    yield Task(id="a\0", topic="t"), "id"
    yield Task(id="n"), "topic"
    yield Task(id="n", topic=LONG), "topic"
    yield Task(id="n", topic="\0"), "topic"
    yield Task(id="n", topic="t", nonce=LONG), "nonce"
    yield Task(id="n", topic="t", producer="\0"), "producer"
    yield Task(id="n", topic="t", consumer=LONG), "consumer"
    for state in (5, -1, 2**31 - 1):
        yield Task(id="n", topic="t", state=state), "state"  # type: ignore[arg-type]
    for field in ("produced", "scheduled", "consumed", "deadline"):
        yield Task(id="n", topic="t", **{field: NO_TIME}), field  # type: ignore[arg-type]
        yield Task(id="n", topic="t", **{field: Timestamp(nanos=-1)}), field  # type: ignore[arg-type]
    for defer in (PAST_9999, NO_DURATION, Duration(seconds=2**62), Duration(seconds=-315_576_000_000)):
        yield Task(id="n", topic="t", defer=defer), "defer"
    for payload in BROKEN:
        yield Task(id="n", topic="t", payload=payload), "payload"


def bad_commits() -> Iterable[tuple[str, Commit, str]]:
    """IDs and commits, and the field that is wrong."""
    yield "", Commit(), "id"
    yield LONG, Commit(), "id"
    yield "a", Commit(nonce=LONG), "nonce"
    yield "a", Commit(topic="\0"), "topic"
    yield "a", Commit(topic=LONG), "topic"
    for state in (5, -1, 2**31 - 1):
        yield "a", Commit(state=state), "state"  # type: ignore[arg-type]
    yield "a", Commit(scheduled=NO_TIME), "scheduled"
    yield "a", Commit(defer=PAST_9999), "defer"
    yield "a", Commit(defer=NO_DURATION), "defer"
    for payload in BROKEN:
        yield "a", Commit(payload=payload), "payload"


def bad_promises() -> Iterable[tuple[Promise, str]]:
    """Promises, and the field that is wrong."""
    yield Promise(), "id"
    yield Promise(id=LONG), "id"
    yield Promise(id="a\0"), "id"
    yield Promise(id="a", consumer=LONG), "consumer"
    yield Promise(id="a", deadline=NO_TIME), "deadline"
    yield Promise(id="a", timeout=PAST_9999), "timeout"
    yield Promise(id="a", timeout=NO_DURATION), "timeout"


def bad_calls() -> Iterable[tuple[str, Any, str]]:
    """Methods and requests, and the field that is wrong."""
    good = Task(id="new", topic="t")
    for task, field in bad_tasks():
        yield "tasks.InsertTask", tasks.InsertTaskRequest(task=task), field
        yield "tasks.UpsertTask", tasks.UpsertTaskRequest(task=task), field
        yield "tasks.InsertTasks", tasks.InsertTasksRequest(tasks=[good, task]), f"tasks[1].{field}"
        yield "tasks.UpsertTasks", tasks.UpsertTasksRequest(tasks=[good, task, good]), f"tasks[1].{field}"
    many = [Task(id=str(n), topic="t") for n in range(10_001)]
    yield "tasks.InsertTasks", tasks.InsertTasksRequest(tasks=many), "tasks"
    yield "tasks.UpsertTasks", tasks.UpsertTasksRequest(tasks=many), "tasks"
    yield "tasks.InsertTask", tasks.InsertTaskRequest(), "id"
    for id, commit, field in bad_commits():
        request = tasks.CommitTaskRequest(id=id, commit=commit)
        yield "tasks.CommitTask", request, field
        batch = [tasks.CommitTaskRequest(id="a"), request]
        yield "tasks.CommitTasks", tasks.CommitTasksRequest(commits=batch), f"commits[1].{field}"
    many_commits = [tasks.CommitTaskRequest(id="a")] * 10_001
    yield "tasks.CommitTasks", tasks.CommitTasksRequest(commits=many_commits), "commits"
    for promise, field in bad_promises():
        yield "promises.InsertPromise", promises.InsertPromiseRequest(promise=promise), field
        yield "promises.UpsertPromise", promises.UpsertPromiseRequest(promise=promise), field
    yield "promises.InsertPromise", promises.InsertPromiseRequest(), "id"
    for request, field in (
        (promises.ClaimTasksRequest(), "topic"),
        (promises.ClaimTasksRequest(topic=LONG), "topic"),
        (promises.ClaimTasksRequest(topic="t", consumer="\0"), "consumer"),
        (promises.ClaimTasksRequest(topic="t", timeout=PAST_9999), "timeout"),
        (promises.ClaimTasksRequest(topic="t", timeout=NO_DURATION), "timeout"),
        (promises.ClaimTasksRequest(topic="t", deadline=NO_TIME), "deadline"),
        (promises.ClaimTasksRequest(topic="t", limit=-1), "limit"),
        (promises.ClaimTasksRequest(topic="t", limit=1001), "limit"),
        (promises.ClaimTasksRequest(topic="t", wait=Duration(seconds=-1)), "wait"),
        (promises.ClaimTasksRequest(topic="t", wait=Duration(seconds=601)), "wait"),
        (promises.ClaimTasksRequest(topic="t", wait=NO_DURATION), "wait"),
    ):
        yield "promises.ClaimTasks", request, field
    for request, field in (
        (promises.PollRequest(), "topics"),
        (promises.PollRequest(topics=["t", ""]), "topics[1]"),
        (promises.PollRequest(topics=[LONG]), "topics[0]"),
        (promises.PollRequest(topics=["t"], consumer="\0"), "consumer"),
        (promises.PollRequest(topics=["t"], timeout=Duration()), "timeout"),
        (promises.PollRequest(topics=["t"], timeout=Duration(seconds=-1)), "timeout"),
        (promises.PollRequest(topics=["t"], timeout=PAST_9999), "timeout"),
        (promises.PollRequest(topics=["t"], timeout=NO_DURATION), "timeout"),
        (promises.PollRequest(topics=["t"], max_in_flight=-1), "max_in_flight"),
        (promises.PollRequest(topics=["t"], max_in_flight=10_001), "max_in_flight"),
        (promises.PollRequest(topics=["t"], max_bytes=-1), "max_bytes"),
    ):
        yield "promises.Poll", request, field
    for heartbeat in (Duration(), Duration(nanos=999_000_000), Duration(seconds=301), NO_DURATION):
        yield "promises.Poll", promises.PollRequest(topics=["t"], heartbeat=heartbeat), "heartbeat"
    held = Extension(id="a", nonce="n")
    for extension, field in (
        (Extension(nonce="n"), "id"),
        (Extension(id=LONG, nonce="n"), "id"),
        (Extension(id="a"), "nonce"),
        (Extension(id="a", nonce=LONG), "nonce"),
        (Extension(id="a", nonce="n", timeout=PAST_9999), "timeout"),
        (Extension(id="a", nonce="n", timeout=NO_DURATION), "timeout"),
        (Extension(id="a", nonce="n", deadline=NO_TIME), "deadline"),
    ):
        request = promises.ExtendPromisesRequest(extensions=[held, extension])
        yield "promises.ExtendPromises", request, f"extensions[1].{field}"
    yield "promises.ExtendPromises", promises.ExtendPromisesRequest(extensions=[held] * 10_001), "extensions"
    for request, field in (
        (promises.ClaimTasksRequest(topic="t", request_id=LONG), "request_id"),
        (promises.ClaimTasksRequest(topic="t", request_id="\0"), "request_id"),
    ):
        yield "promises.ClaimTasks", request, field
    for name in ("", LONG, "\0"):
        yield "tasks.GetTask", tasks.GetTaskRequest(id=name), "id"
        yield "tasks.DeleteTask", tasks.DeleteTaskRequest(id=name), "id"
        yield "tasks.DeleteTasks", tasks.DeleteTasksRequest(topic=name), "topic"
        yield "promises.GetPromise", promises.GetPromiseRequest(id=name), "id"
        yield "promises.DeletePromise", promises.DeletePromiseRequest(id=name), "id"
        yield "promises.DeletePromises", promises.DeletePromisesRequest(topic=name), "topic"
        yield "topics.GetTopic", topics.GetTopicRequest(topic=name), "topic"
        yield "topics.GetTopicStats", topics.GetTopicStatsRequest(topic=name), "topic"
        yield "topics.DeleteTopic", topics.DeleteTopicRequest(topic=name), "topic"
    yield "tasks.DeleteTasks", tasks.DeleteTasksRequest(topic="t", state=9), "state"  # type: ignore[arg-type]
    for method, request_type in (
        ("tasks.ListTasks", tasks.ListTasksRequest),
        ("topics.ListTopics", topics.ListTopicsRequest),
        ("promises.ListPromises", promises.ListPromisesRequest),
    ):
        yield method, request_type(page_size=101), "page_size"
        yield method, request_type(page_size=-1), "page_size"
        yield method, request_type(skip=10_001), "skip"
        yield method, request_type(skip=-1), "skip"
        yield method, request_type(page_token="no token"), "page_token"
        yield method, request_type(page_token="/w=="), "page_token"


async def failure(client: Any, method: str, request: Any) -> Any:
    """The status that a call fails with."""
    stub, name = method.split(".")
    call = getattr(getattr(client, stub), name)(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if name == "Poll" else call)
    status = rpc_status.from_call(caught.value)
    assert status is not None, caught.value
    return status


def reason(status: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "ratus"
    return str(info.reason)


def field(status: Any) -> str:
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    return str(bad.field_violations[0].field)


async def contents(client: Any) -> list[Task]:
    page = await client.tasks.ListTasks(tasks.ListTasksRequest(page_size=100))
    return list(page.tasks)


async def test_bad_requests_name_their_field_and_change_nothing(client: Any) -> None:
    stored = [Task(id="a", topic="t", payload=b"1"), Task(id="b", topic="t")]
    await client.tasks.InsertTasks(tasks.InsertTasksRequest(tasks=stored))
    before = await contents(client)
    for method, request, expected in bad_calls():
        status = await failure(client, method, request)
        told = f"{method} {str(request)[:100]}: {status.message[:100]}"
        assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], told
        assert reason(status) == "BAD_REQUEST", told
        assert field(status) == expected, told
        assert status.message.startswith("bad request: "), told
    assert await contents(client) == before


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("tasks.InsertTask", lambda task: tasks.InsertTaskRequest(task=task)),
        ("tasks.UpsertTask", lambda task: tasks.UpsertTaskRequest(task=task)),
        ("tasks.InsertTasks", lambda task: tasks.InsertTasksRequest(tasks=[Task(id="n", topic="t"), task])),
        (
            "tasks.CommitTask",
            lambda task: tasks.CommitTaskRequest(id=task.id, commit=Commit(payload=task.payload)),
        ),
    ],
)
async def test_payloads_over_the_limit_are_too_large(client: Any, method: str, request_: Any) -> None:
    await client.tasks.InsertTask(tasks.InsertTaskRequest(task=Task(id="a", topic="t")))
    before = await contents(client)
    too_large = Task(id="a", topic="t", payload=b'"' + b"x" * (1024 * 1024 - 1) + b'"')
    status = await failure(client, method, request_(too_large))
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert reason(status) == "TOO_LARGE"
    assert status.message.startswith("too large: ")
    assert await contents(client) == before


async def test_payloads_that_look_odd_come_back(client: Any) -> None:
    odd = [
        (b"123456789012345678901234567890", b"1.2345678901234568e29"),
        (b"9223372036854775807", b"9223372036854775807"),
        (b"-9223372036854775808", b"-9223372036854775808"),
        (b'{"$ref":"a","$id":1}', b'{"$ref":"a","$id":1}'),
        (b'{"a.b":{"$c":null}}', b'{"a.b":{"$c":null}}'),
        (b"[" * 100 + b"]" * 100, b"[" * 100 + b"]" * 100),
        (b"false", b"false"),
        (b"0", b"0"),
        (b'""', b'""'),
        (b' { "a" : 1 } ', b'{"a":1}'),
    ]
    for given, expected in odd:
        await client.tasks.UpsertTask(tasks.UpsertTaskRequest(task=Task(id="a", topic="t", payload=given)))
        assert (await client.tasks.GetTask(tasks.GetTaskRequest(id="a"))).task.payload == expected


async def test_names_of_a_kibibyte_are_fine(client: Any) -> None:
    name = "ü" * 512
    await client.tasks.InsertTask(tasks.InsertTaskRequest(task=Task(id=name, topic=name)))
    assert (await client.tasks.GetTask(tasks.GetTaskRequest(id=name))).task.topic == name
