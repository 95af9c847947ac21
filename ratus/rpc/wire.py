"""Converters between protobuf messages and the structs of the model.

`read_` makes a struct of a message, `write_` a message of a struct, or its fields. Messages are built by keyword, which
is what is fast. The rules are not applied here, but what cannot be carried over is refused in their words.
"""

from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from msgspec import Raw

from ratus.model import (
    ClaimRequest,
    Commit,
    Extension,
    PageRequest,
    PollRequest,
    Promise,
    Task,
    TaskInput,
    Topic,
    TopicStats,
)
from ratus.rpc.times import read_duration, read_time, write_duration, write_time
from ratus.rules import check_claim, check_name, check_poll, check_state
from ratus.v1 import promise_pb2, promise_service_pb2, task_pb2, topic_pb2, topic_service_pb2

M = TypeVar("M", bound=Message)

MIN_INT32: Final = -(2**31)
MAX_INT32: Final = 2**31 - 1
MIN_INT64: Final = -(2**63)
MAX_INT64: Final = 2**63 - 1


def build(message: type[M], **fields: Any) -> M:
    """A message of these fields; BadRequest, as the rules say it, for a text with lone surrogates."""
    try:
        return message(**fields)
    except UnicodeEncodeError:
        for name, value in fields.items():
            if isinstance(value, str):
                check_name(value, name)
        raise


def read_state(state: int, what: str = "state") -> int | None:
    """The REST number of a state, None for unspecified; BadRequest beyond the enum."""
    return check_state(state - 1, what) if state else None


def write_state(state: int | None, what: str = "state") -> Any:
    """The protobuf number of a state; BadRequest for what it could not carry."""
    if state is None:
        return 0
    if state == -1 or not MIN_INT32 <= state < MAX_INT32:
        check_state(state, what)
    return state + 1


def read_moment(message: Any, field: str) -> datetime | None:
    """The time in a field, if it is set."""
    return read_time(getattr(message, field), field) if message.HasField(field) else None


def read_span(message: Any, field: str) -> timedelta | None:
    """The duration in a field, if it is set."""
    return read_duration(getattr(message, field), field) if message.HasField(field) else None


def write_task(task: Task) -> Any:
    """The fields of a stored task, which a message takes in place of the submessage; that spares copying one."""
    produced = write_time(task.produced)
    return {
        "id": task.id,
        "topic": task.topic,
        "state": task.state + 1,
        "nonce": task.nonce,
        "producer": task.producer,
        "consumer": task.consumer,
        "produced": produced,
        "scheduled": produced if task.scheduled == task.produced else write_time(task.scheduled),
        "consumed": write_time(task.consumed),
        "deadline": write_time(task.deadline),
        "payload": b"" if task.payload is None else bytes(task.payload),
    }


def read_task(message: task_pb2.Task) -> Task:
    """The stored task that a server has sent."""
    return Task(
        id=message.id,
        topic=message.topic,
        state=message.state - 1,
        nonce=message.nonce,
        producer=message.producer,
        consumer=message.consumer,
        produced=read_time(message.produced, "produced"),
        scheduled=read_time(message.scheduled, "scheduled"),
        consumed=read_moment(message, "consumed"),
        deadline=read_moment(message, "deadline"),
        payload=Raw(payload) if (payload := message.payload) else None,
    )


def read_task_input(message: task_pb2.Task) -> TaskInput:
    """The task that a client gives."""
    has = message.HasField
    return TaskInput(
        id=message.id,
        topic=message.topic,
        state=read_state(message.state),
        nonce=message.nonce,
        producer=message.producer,
        consumer=message.consumer,
        produced=read_time(message.produced, "produced") if has("produced") else None,
        scheduled=read_time(message.scheduled, "scheduled") if has("scheduled") else None,
        consumed=read_time(message.consumed, "consumed") if has("consumed") else None,
        deadline=read_time(message.deadline, "deadline") if has("deadline") else None,
        payload=message.payload or None,
        defer=read_duration(message.defer, "defer") if has("defer") else None,
    )


def write_task_input(task: TaskInput) -> task_pb2.Task:
    """The message of a task that a client gives."""
    return build(
        task_pb2.Task,
        id=task.id,
        topic=task.topic,
        state=write_state(task.state),
        nonce=task.nonce,
        producer=task.producer,
        consumer=task.consumer,
        produced=write_time(task.produced),
        scheduled=write_time(task.scheduled),
        consumed=write_time(task.consumed),
        deadline=write_time(task.deadline),
        payload=task.payload,
        defer=write_duration(task.defer),
    )


def read_commit(id: str, message: task_pb2.Commit) -> Commit:
    """The commit on a task that a client gives."""
    return Commit(
        id=id,
        nonce=message.nonce,
        topic=message.topic,
        state=read_state(message.state, "target state"),
        scheduled=read_moment(message, "scheduled"),
        payload=Raw(message.payload) if message.payload else None,
        defer=read_span(message, "defer"),
    )


def write_commit(commit: Commit) -> task_pb2.Commit:
    """The message of a commit that a client gives; the ID of the task travels beside it."""
    return build(
        task_pb2.Commit,
        nonce=commit.nonce,
        topic=commit.topic,
        state=write_state(commit.state, "target state"),
        scheduled=write_time(commit.scheduled),
        payload=None if commit.payload is None else bytes(commit.payload),
        defer=write_duration(commit.defer),
    )


def read_promise(message: promise_pb2.Promise) -> Promise:
    """The promise that a client gives or a server has sent."""
    return Promise(
        id=message.id,
        consumer=message.consumer,
        deadline=read_moment(message, "deadline"),
        timeout=read_span(message, "timeout"),
    )


def write_promise(promise: Promise) -> promise_pb2.Promise:
    """The message of a promise."""
    return build(
        promise_pb2.Promise,
        id=promise.id,
        consumer=promise.consumer,
        deadline=write_time(promise.deadline),
        timeout=write_duration(promise.timeout),
    )


def read_claim(message: promise_service_pb2.ClaimTasksRequest) -> ClaimRequest:
    """The claim that a client makes."""
    return ClaimRequest(
        topic=message.topic,
        consumer=message.consumer,
        deadline=read_moment(message, "deadline"),
        timeout=read_span(message, "timeout"),
        limit=message.limit,
        wait=read_span(message, "wait"),
        request_id=message.request_id,
    )


def write_claim(request: ClaimRequest) -> promise_service_pb2.ClaimTasksRequest:
    """The message of a claim."""
    if not MIN_INT32 <= request.limit <= MAX_INT32:
        check_claim(request)
    return build(
        promise_service_pb2.ClaimTasksRequest,
        topic=request.topic,
        consumer=request.consumer,
        deadline=write_time(request.deadline),
        timeout=write_duration(request.timeout),
        limit=request.limit,
        wait=write_duration(request.wait),
        request_id=request.request_id,
    )


def read_poll(message: promise_service_pb2.PollRequest) -> PollRequest:
    """What a streaming consumer wants."""
    return PollRequest(
        topics=list(message.topics),
        consumer=message.consumer,
        timeout=read_span(message, "timeout"),
        max_in_flight=message.max_in_flight,
        max_bytes=message.max_bytes,
        release_on_close=message.release_on_close,
        heartbeat=read_span(message, "heartbeat"),
    )


def write_poll(request: PollRequest) -> promise_service_pb2.PollRequest:
    """The message of what a streaming consumer wants."""
    if not MIN_INT32 <= request.max_in_flight <= MAX_INT32 or not MIN_INT64 <= request.max_bytes <= MAX_INT64:
        check_poll(request)
    return build(
        promise_service_pb2.PollRequest,
        topics=request.topics,
        consumer=request.consumer,
        timeout=write_duration(request.timeout),
        max_in_flight=request.max_in_flight,
        max_bytes=request.max_bytes,
        release_on_close=request.release_on_close,
        heartbeat=write_duration(request.heartbeat),
    )


def write_extension(extension: Extension) -> promise_pb2.Extension:
    """The message of an extension."""
    return build(
        promise_pb2.Extension,
        id=extension.id,
        nonce=extension.nonce,
        timeout=write_duration(extension.timeout),
        deadline=write_time(extension.deadline),
    )


def read_page(message: Any) -> PageRequest:
    """The page that a client asks for, in a request for a list."""
    return PageRequest(limit=message.page_size, offset=message.skip, token=message.page_token)


def write_page(page: PageRequest) -> dict[str, Any]:
    """The fields of a request for a page. Numbers beyond 32 bits stay beyond every bound of the server."""
    return {
        "page_size": max(MIN_INT32, min(page.limit, MAX_INT32)),
        "skip": max(MIN_INT32, min(page.offset, MAX_INT32)),
        "page_token": page.token,
    }


def write_topic(topic: Topic) -> topic_pb2.Topic:
    """The message of a topic."""
    return topic_pb2.Topic(name=topic.name, count=topic.count)


def read_topic(message: topic_pb2.Topic) -> Topic:
    """The topic that a server has sent."""
    return Topic(name=message.name, count=message.count)


def write_stats(stats: TopicStats) -> topic_service_pb2.GetTopicStatsResponse:
    """The message of the statistics of a topic."""
    return topic_service_pb2.GetTopicStatsResponse(
        pending=stats.pending,
        active=stats.active,
        completed=stats.completed,
        archived=stats.archived,
        due=stats.due,
        oldest_due=write_time(stats.oldest_due),
        next_scheduled=write_time(stats.next_scheduled),
        waiting_consumers=stats.waiting_consumers,
    )


def read_stats(message: topic_service_pb2.GetTopicStatsResponse) -> TopicStats:
    """The statistics that a server has sent."""
    return TopicStats(
        pending=message.pending,
        active=message.active,
        completed=message.completed,
        archived=message.archived,
        due=message.due,
        oldest_due=read_moment(message, "oldest_due"),
        next_scheduled=read_moment(message, "next_scheduled"),
        waiting_consumers=message.waiting_consumers,
    )
