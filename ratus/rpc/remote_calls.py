"""All calls of a gRPC server elsewhere but its streams, with the structs and errors of the model."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from ratus.config import MAX_WAIT
from ratus.errors import RatusError
from ratus.model import (
    ClaimRequest,
    Commit,
    Extension,
    Page,
    PageRequest,
    Promise,
    ServerInfo,
    Task,
    TaskInput,
    Topic,
    TopicStats,
    Updated,
)
from ratus.rpc import wire
from ratus.rpc.connection import TIMEOUT, Connection, Link, OneAttempt
from ratus.rpc.errors import from_status
from ratus.rpc.paging import page_fields
from ratus.rpc.times import read_duration, read_time
from ratus.rules import each
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import server_service_pb2 as server_pb
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1 import topic_service_pb2 as topics_pb

BULK_TIMEOUT: Final = 600.0  # seconds, of a call that may change any number of tasks


class RemoteCalls:
    """The calls over a connection. Errors are those that the server raised, and StorageUnavailable without a server.

    Calls that are safe to repeat are repeated for as long as the connection has patience.
    """

    def __init__(self, connection: Connection | OneAttempt) -> None:
        self._connection = connection

    async def _call(
        self, method: Callable[[Link], Any], request: Any, timeout: float = TIMEOUT, *, repeat: bool = False
    ) -> Any:
        return await self._connection.call(method, request, timeout=timeout, repeat=repeat)

    async def list_tasks(self, topic: str, page: PageRequest) -> Page[Task]:
        """A page of the tasks of a topic, or of all for an empty one; may hold fewer than asked for (see its token)."""
        request = wire.build(tasks_pb.ListTasksRequest, topic=topic, **wire.write_page(page))
        answer = await page_fields(self._call(lambda link: link.tasks.ListTasks, request, repeat=True), remote=True)
        return Page([wire.read_task(task) for task in answer.tasks], answer.next_page_token)

    async def get_task(self, id: str) -> Task:
        """A task; NotFound."""
        answer = await self._call(
            lambda link: link.tasks.GetTask, wire.build(tasks_pb.GetTaskRequest, id=id), repeat=True
        )
        return wire.read_task(answer.task)

    async def insert_task(self, task: TaskInput) -> Updated:
        """Insert a task; TaskExists."""
        request = tasks_pb.InsertTaskRequest(task=wire.write_task_input(task))
        answer = await self._call(lambda link: link.tasks.InsertTask, request)
        return Updated(answer.created, answer.updated)

    async def insert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert tasks and leave those that exist; of equal ids the first is kept."""
        request = tasks_pb.InsertTasksRequest(tasks=each(tasks, "tasks", wire.write_task_input))
        return _updated(await self._call(lambda link: link.tasks.InsertTasks, request, repeat=True))

    async def upsert_task(self, task: TaskInput) -> Updated:
        """Insert or replace a task."""
        request = tasks_pb.UpsertTaskRequest(task=wire.write_task_input(task))
        answer = await self._call(lambda link: link.tasks.UpsertTask, request)
        return Updated(answer.created, answer.updated)

    async def upsert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert or replace tasks; of equal ids the last is kept."""
        request = tasks_pb.UpsertTasksRequest(tasks=each(tasks, "tasks", wire.write_task_input))
        return _updated(await self._call(lambda link: link.tasks.UpsertTasks, request))

    async def delete_task(self, id: str) -> int:
        """Delete a task; the number of deleted tasks."""
        answer = await self._call(lambda link: link.tasks.DeleteTask, wire.build(tasks_pb.DeleteTaskRequest, id=id))
        return int(answer.deleted)

    async def delete_tasks(self, topic: str, state: int | None = None) -> int:
        """Delete the tasks of a topic, in one state or in any; the number of deleted tasks."""
        request = wire.build(tasks_pb.DeleteTasksRequest, topic=topic, state=wire.write_state(state))
        answer = await self._call(lambda link: link.tasks.DeleteTasks, request, BULK_TIMEOUT)
        return int(answer.deleted)

    async def commit_task(self, commit: Commit) -> Task:
        """Apply a commit and answer the task after it; NotFound, NonceMismatch."""
        answer = await self._call(lambda link: link.tasks.CommitTask, write_commit(commit))
        return wire.read_task(answer.task)

    async def commit_tasks(self, commits: Sequence[Commit], return_tasks: bool) -> list[Task | RatusError | None]:
        """Apply commits in order; for each an error, the task after it if asked for and it fits, else None."""
        request = tasks_pb.CommitTasksRequest(commits=each(commits, "commits", write_commit), return_tasks=return_tasks)
        answer = await self._call(lambda link: link.tasks.CommitTasks, request)
        return [_outcome(result) for result in answer.results]

    async def list_topics(self, page: PageRequest) -> Page[Topic]:
        """A page of topics."""
        request = wire.build(topics_pb.ListTopicsRequest, **wire.write_page(page))
        answer = await page_fields(self._call(lambda link: link.topics.ListTopics, request, repeat=True), remote=True)
        return Page([wire.read_topic(topic) for topic in answer.topics], answer.next_page_token)

    async def get_topic(self, topic: str) -> Topic:
        """A topic; NotFound."""
        answer = await self._call(
            lambda link: link.topics.GetTopic, wire.build(topics_pb.GetTopicRequest, topic=topic), repeat=True
        )
        return wire.read_topic(answer.topic)

    async def get_topic_stats(self, topic: str) -> TopicStats:
        """How a topic is doing."""
        request = wire.build(topics_pb.GetTopicStatsRequest, topic=topic)
        return wire.read_stats(await self._call(lambda link: link.topics.GetTopicStats, request, repeat=True))

    async def delete_topic(self, topic: str) -> int:
        """Delete a topic and its tasks; the number of deleted tasks."""
        request = wire.build(topics_pb.DeleteTopicRequest, topic=topic)
        answer = await self._call(lambda link: link.topics.DeleteTopic, request, BULK_TIMEOUT)
        return int(answer.deleted)

    async def delete_topics(self) -> int:
        """Delete everything; the number of deleted tasks."""
        answer = await self._call(lambda link: link.topics.DeleteTopics, topics_pb.DeleteTopicsRequest(), BULK_TIMEOUT)
        return int(answer.deleted)

    async def list_promises(self, topic: str, page: PageRequest) -> Page[Promise]:
        """A page of the promises of a topic, or of all for an empty one."""
        request = wire.build(promises_pb.ListPromisesRequest, topic=topic, **wire.write_page(page))
        answer = await page_fields(
            self._call(lambda link: link.promises.ListPromises, request, repeat=True), remote=True
        )
        return Page([wire.read_promise(promise) for promise in answer.promises], answer.next_page_token)

    async def get_promise(self, id: str) -> Promise:
        """The promise on an active task; NotFound."""
        answer = await self._call(
            lambda link: link.promises.GetPromise, wire.build(promises_pb.GetPromiseRequest, id=id), repeat=True
        )
        return wire.read_promise(answer.promise)

    async def insert_promise(self, promise: Promise) -> Task:
        """Claim the named task if it is pending; NotFound, TaskNotPending."""
        request = promises_pb.InsertPromiseRequest(promise=wire.write_promise(promise))
        return wire.read_task((await self._call(lambda link: link.promises.InsertPromise, request)).task)

    async def upsert_promise(self, promise: Promise) -> Task:
        """Claim the named task in any state; NotFound."""
        request = promises_pb.UpsertPromiseRequest(promise=wire.write_promise(promise))
        return wire.read_task((await self._call(lambda link: link.promises.UpsertPromise, request)).task)

    async def delete_promise(self, id: str, nonce: str = "") -> int:
        """Set an active task back to pending; the number of deleted promises."""
        request = wire.build(promises_pb.DeletePromiseRequest, id=id, nonce=nonce)
        answer = await self._call(lambda link: link.promises.DeletePromise, request, repeat=bool(nonce))
        return int(answer.deleted)

    async def delete_promises(self, topic: str) -> int:
        """Set the active tasks of a topic back to pending; the number of deleted promises."""
        request = wire.build(promises_pb.DeletePromisesRequest, topic=topic)
        answer = await self._call(lambda link: link.promises.DeletePromises, request, BULK_TIMEOUT)
        return int(answer.deleted)

    async def extend_promises(self, extensions: Sequence[Extension]) -> list[RatusError | None]:
        """Set the deadlines of promises that are held; NonceMismatch for each that is not."""
        messages = each(extensions, "extensions", wire.write_extension)
        request = promises_pb.ExtendPromisesRequest(extensions=messages)
        answer = await self._call(lambda link: link.promises.ExtendPromises, request, repeat=True)
        return [from_status(result.status) if result.status.code else None for result in answer.results]

    async def claim_tasks(self, request: ClaimRequest) -> list[Task]:
        """Claim the next due tasks of a topic; safe to repeat with a `request_id` of its own."""
        wait = min(max(request.wait or timedelta(0), timedelta(0)), MAX_WAIT).total_seconds()
        message, repeat = wire.write_claim(request), bool(request.request_id)
        answer = await self._call(lambda link: link.promises.ClaimTasks, message, TIMEOUT + wait, repeat=repeat)
        return [wire.read_task(task) for task in answer.tasks]

    async def get_server_info(self) -> ServerInfo:
        """Facts about the server."""
        answer = await self._call(lambda link: link.server.GetServerInfo, server_pb.GetServerInfoRequest(), repeat=True)
        return ServerInfo(
            version=answer.version,
            engine=answer.engine,
            time=read_time(answer.time, "time"),
            uptime=read_duration(answer.uptime, "uptime"),
        )


def _updated(answer: tasks_pb.InsertTasksResponse | tasks_pb.UpsertTasksResponse) -> Updated:
    return Updated(answer.created, answer.updated, list(answer.existing_ids))


def write_commit(commit: Commit) -> tasks_pb.CommitTaskRequest:
    """The message of a commit with the ID of its task."""
    return wire.build(tasks_pb.CommitTaskRequest, id=commit.id, commit=wire.write_commit(commit))


def _outcome(result: Any) -> Task | RatusError | None:
    if result.status.code:
        return from_status(result.status)
    return wire.read_task(result.task) if result.HasField("task") else None
