"""The backend of a gateway that runs alone: a gRPC server elsewhere."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ratus.config import MAX_WAIT
from ratus.errors import RatusError, StorageUnavailable, Unavailable
from ratus.model import (
    ClaimRequest,
    Commit,
    Extension,
    Page,
    PageRequest,
    PollRequest,
    Promise,
    ServerInfo,
    Task,
    TaskInput,
    Topic,
    TopicStats,
    Updated,
)
from ratus.rpc import wire
from ratus.rpc.errors import from_rpc_error, from_status
from ratus.rpc.paging import page_fields
from ratus.rpc.remote_stream import RemoteStream
from ratus.rpc.times import read_duration, read_time
from ratus.rules import each
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import server_service_pb2 as server_pb
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1 import topic_service_pb2 as topics_pb
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.server_service_pb2_grpc import ServerServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from ratus.v1.topic_service_pb2_grpc import TopicServiceStub

A = TypeVar("A")

_logger = logging.getLogger(__name__)

OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # one task always passes, however large the server lets payloads be
    ("grpc.max_send_message_length", -1),  # the server says what is too large
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Calls fail at once while there is no connection, so look for one often; 2 s is also the time that one may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

TIMEOUT: Final = 30.0  # seconds, of a call
BULK_TIMEOUT: Final = 600.0  # of a call that may change any number of tasks
READY_TIMEOUT: Final = 5.0


class RemoteBackend:
    """A `ratus.backend.Backend` over one channel to `target`, such as `127.0.0.1:50051`.

    With credentials it uses TLS. Create it inside the running loop. Errors are those that the server raised; without a
    connection calls raise StorageUnavailable at once.
    """

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=OPTIONS)
        self._tasks = TaskServiceStub(self._channel)
        self._topics = TopicServiceStub(self._channel)
        self._promises = PromiseServiceStub(self._channel)
        self._server = ServerServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)  # type: ignore[no-untyped-call]
        self._given_back: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give back what streams have left, cancel what is under way and close the channel."""
        if self._given_back:
            await asyncio.wait(self._given_back, timeout=READY_TIMEOUT)
        await self._channel.close()

    async def list_tasks(self, topic: str, page: PageRequest) -> Page[Task]:
        """A page of the tasks of a topic, or of all for an empty one; may hold fewer than asked for (see its token)."""
        request = wire.build(tasks_pb.ListTasksRequest, topic=topic, **wire.write_page(page))
        answer = await page_fields(_call(self._tasks.ListTasks, request), remote=True)
        return Page([wire.read_task(task) for task in answer.tasks], answer.next_page_token)

    async def get_task(self, id: str) -> Task:
        """A task; NotFound."""
        answer = await _call(self._tasks.GetTask, wire.build(tasks_pb.GetTaskRequest, id=id))
        return wire.read_task(answer.task)

    async def insert_task(self, task: TaskInput) -> Updated:
        """Insert a task; TaskExists."""
        request = tasks_pb.InsertTaskRequest(task=wire.write_task_input(task))
        answer = await _call(self._tasks.InsertTask, request)
        return Updated(answer.created, answer.updated)

    async def insert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert tasks and leave those that exist; of equal ids the first is kept."""
        request = tasks_pb.InsertTasksRequest(tasks=each(tasks, "tasks", wire.write_task_input))
        return _updated(await _call(self._tasks.InsertTasks, request))

    async def upsert_task(self, task: TaskInput) -> Updated:
        """Insert or replace a task."""
        request = tasks_pb.UpsertTaskRequest(task=wire.write_task_input(task))
        answer = await _call(self._tasks.UpsertTask, request)
        return Updated(answer.created, answer.updated)

    async def upsert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert or replace tasks; of equal ids the last is kept."""
        request = tasks_pb.UpsertTasksRequest(tasks=each(tasks, "tasks", wire.write_task_input))
        return _updated(await _call(self._tasks.UpsertTasks, request))

    async def delete_task(self, id: str) -> int:
        """Delete a task; the number of deleted tasks."""
        answer = await _call(self._tasks.DeleteTask, wire.build(tasks_pb.DeleteTaskRequest, id=id))
        return int(answer.deleted)

    async def delete_tasks(self, topic: str, state: int | None = None) -> int:
        """Delete the tasks of a topic, in one state or in any; the number of deleted tasks."""
        request = wire.build(tasks_pb.DeleteTasksRequest, topic=topic, state=wire.write_state(state))
        answer = await _call(self._tasks.DeleteTasks, request, BULK_TIMEOUT)
        return int(answer.deleted)

    async def commit_task(self, commit: Commit) -> Task:
        """Apply a commit and answer the task after it; NotFound, NonceMismatch."""
        answer = await _call(self._tasks.CommitTask, _commit(commit))
        return wire.read_task(answer.task)

    async def commit_tasks(self, commits: Sequence[Commit], return_tasks: bool) -> list[Task | RatusError | None]:
        """Apply commits in order; for each an error, the task after it if asked for and it fits, else None."""
        request = tasks_pb.CommitTasksRequest(commits=each(commits, "commits", _commit), return_tasks=return_tasks)
        answer = await _call(self._tasks.CommitTasks, request)
        return [_outcome(result) for result in answer.results]

    async def list_topics(self, page: PageRequest) -> Page[Topic]:
        """A page of topics."""
        request = wire.build(topics_pb.ListTopicsRequest, **wire.write_page(page))
        answer = await page_fields(_call(self._topics.ListTopics, request), remote=True)
        return Page([wire.read_topic(topic) for topic in answer.topics], answer.next_page_token)

    async def get_topic(self, topic: str) -> Topic:
        """A topic; NotFound."""
        answer = await _call(self._topics.GetTopic, wire.build(topics_pb.GetTopicRequest, topic=topic))
        return wire.read_topic(answer.topic)

    async def get_topic_stats(self, topic: str) -> TopicStats:
        """How a topic is doing."""
        request = wire.build(topics_pb.GetTopicStatsRequest, topic=topic)
        return wire.read_stats(await _call(self._topics.GetTopicStats, request))

    async def delete_topic(self, topic: str) -> int:
        """Delete a topic and its tasks; the number of deleted tasks."""
        request = wire.build(topics_pb.DeleteTopicRequest, topic=topic)
        answer = await _call(self._topics.DeleteTopic, request, BULK_TIMEOUT)
        return int(answer.deleted)

    async def delete_topics(self) -> int:
        """Delete everything; the number of deleted tasks."""
        answer = await _call(self._topics.DeleteTopics, topics_pb.DeleteTopicsRequest(), BULK_TIMEOUT)
        return int(answer.deleted)

    async def list_promises(self, topic: str, page: PageRequest) -> Page[Promise]:
        """A page of the promises of a topic, or of all for an empty one."""
        request = wire.build(promises_pb.ListPromisesRequest, topic=topic, **wire.write_page(page))
        answer = await page_fields(_call(self._promises.ListPromises, request), remote=True)
        return Page([wire.read_promise(promise) for promise in answer.promises], answer.next_page_token)

    async def get_promise(self, id: str) -> Promise:
        """The promise on an active task; NotFound."""
        answer = await _call(self._promises.GetPromise, wire.build(promises_pb.GetPromiseRequest, id=id))
        return wire.read_promise(answer.promise)

    async def insert_promise(self, promise: Promise) -> Task:
        """Claim the named task if it is pending; NotFound, TaskNotPending."""
        request = promises_pb.InsertPromiseRequest(promise=wire.write_promise(promise))
        return wire.read_task((await _call(self._promises.InsertPromise, request)).task)

    async def upsert_promise(self, promise: Promise) -> Task:
        """Claim the named task in any state; NotFound."""
        request = promises_pb.UpsertPromiseRequest(promise=wire.write_promise(promise))
        return wire.read_task((await _call(self._promises.UpsertPromise, request)).task)

    async def delete_promise(self, id: str, nonce: str = "") -> int:
        """Set an active task back to pending; the number of deleted promises."""
        request = wire.build(promises_pb.DeletePromiseRequest, id=id, nonce=nonce)
        answer = await _call(self._promises.DeletePromise, request)
        return int(answer.deleted)

    async def delete_promises(self, topic: str) -> int:
        """Set the active tasks of a topic back to pending; the number of deleted promises."""
        request = wire.build(promises_pb.DeletePromisesRequest, topic=topic)
        answer = await _call(self._promises.DeletePromises, request, BULK_TIMEOUT)
        return int(answer.deleted)

    async def extend_promises(self, extensions: Sequence[Extension]) -> list[RatusError | None]:
        """Set the deadlines of promises that are held; NonceMismatch for each that is not."""
        messages = each(extensions, "extensions", wire.write_extension)
        request = promises_pb.ExtendPromisesRequest(extensions=messages)
        answer = await _call(self._promises.ExtendPromises, request)
        return [from_status(result.status) if result.status.code else None for result in answer.results]

    def subscribe(self, request: PollRequest) -> RemoteStream:
        """Open a stream of due tasks; what the server refuses is raised by its first `next`."""
        return RemoteStream(self._promises.Poll(wire.write_poll(request)), self._give_back)

    def _give_back(self, tasks: Sequence[Task]) -> None:
        giving = asyncio.create_task(self._release(tasks))
        self._given_back.add(giving)
        giving.add_done_callback(self._given_back.discard)

    async def _release(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            try:
                await self.delete_promise(task.id, task.nonce)
            except RatusError as error:
                _logger.warning("a task could not be given back, it waits for its deadline: %s", error)

    async def claim_tasks(self, request: ClaimRequest) -> list[Task]:
        """Claim the next due tasks of a topic."""
        wait = min(max(request.wait or timedelta(0), timedelta(0)), MAX_WAIT).total_seconds()
        answer = await _call(self._promises.ClaimTasks, wire.write_claim(request), TIMEOUT + wait)
        return [wire.read_task(task) for task in answer.tasks]

    async def get_server_info(self) -> ServerInfo:
        """Facts about the server."""
        answer = await _call(self._server.GetServerInfo, server_pb.GetServerInfoRequest())
        return ServerInfo(
            version=answer.version,
            engine=answer.engine,
            time=read_time(answer.time, "time"),
            uptime=read_duration(answer.uptime, "uptime"),
        )

    async def check_ready(self) -> None:
        """Return if the server says that calls can be served now, else raise Unavailable."""
        try:
            health = await _call(self._health.Check, health_pb2.HealthCheckRequest(), READY_TIMEOUT)
        except Unavailable:
            raise
        except RatusError as error:
            raise StorageUnavailable(f"the server does not tell its health: {error}") from error
        if health.status != health_pb2.HealthCheckResponse.SERVING:
            raise StorageUnavailable("the server is not ready")


async def _call(method: Any, request: Any, timeout: float = TIMEOUT) -> Any:
    try:
        return await method(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def _updated(answer: tasks_pb.InsertTasksResponse | tasks_pb.UpsertTasksResponse) -> Updated:
    return Updated(answer.created, answer.updated, list(answer.existing_ids))


def _commit(commit: Commit) -> tasks_pb.CommitTaskRequest:
    return wire.build(tasks_pb.CommitTaskRequest, id=commit.id, commit=wire.write_commit(commit))


def _outcome(result: Any) -> Task | RatusError | None:
    if result.status.code:
        return from_status(result.status)
    return wire.read_task(result.task) if result.HasField("task") else None
