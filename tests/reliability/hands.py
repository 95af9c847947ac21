"""How clients reach a server: REST and unary gRPC, each call recorded in a history."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol, TypeVar

import grpc
import httpx
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from ratus.rpc.errors import LOST_WHILE_WRITING
from ratus.times import from_ms, parse_time, to_ms
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.promise_pb2 import Extension as ExtensionMessage
from ratus.v1.task_pb2 import Commit as CommitMessage
from ratus.v1.task_pb2 import Task
from tests.reliability.history import Claim, Commit, Delivery, Extension, History, Insert, Outcome, Release, Span
from tests.rpc.serving import Client

CALL_SECONDS: Final = 20.0
WAIT_SECONDS: Final = 1  # of a claim, for the first task
CHANNEL: Final = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
_REFUSED: Final = frozenset({"BAD_REQUEST", "NOT_FOUND", "TASK_EXISTS", "TASK_NOT_PENDING", "NONCE_MISMATCH"})
_BY_STATUS: Final = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    409: "NONCE_MISMATCH",
    500: "INTERNAL",
    503: "STORAGE_UNAVAILABLE",
}
_BY_CODE: Final = {5: "NOT_FOUND", 10: "NONCE_MISMATCH", 13: "INTERNAL", 14: "STORAGE_UNAVAILABLE"}
_requests: Final = itertools.count()
T = TypeVar("T")


class Hands(Protocol):
    """What a producer or a consumer can do; every method returns when the outcome is recorded."""

    async def insert(self, inserts: Sequence[Insert]) -> None: ...

    async def claim(self, topic: str, consumer: str, timeout: int) -> list[Delivery]: ...

    async def commit(self, commit: Commit) -> None: ...

    async def extend(self, extension: Extension) -> None: ...

    async def release(self, release: Release) -> None: ...


def settle(span: Span, reason: str) -> None:
    """Note what an answer tells; no reason is success."""
    if not reason:
        span.finish(Outcome.OK)
    else:
        span.finish(Outcome.REFUSED if reason in _REFUSED else Outcome.UNKNOWN, reason)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason that the server gave, or TRANSPORT when the error is not from it.

    WRITING is for a stream that ended while a message was being written: the client's library does not tell why then.
    """
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    if error.details() == LOST_WHILE_WRITING:
        return "WRITING"
    transport = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
    return "TRANSPORT" if error.code() in transport else f"{error.code().name}: {error.details()}"


async def reason_of_end(call: Any) -> str:
    """The reason for which a stream has ended; none if that was in order."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return ""
    initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    return reason_of(grpc.aio.AioRpcError(code, initial, trailing, details=await call.details()))


def status_reason(code: int) -> str:
    """The reason of an entry of a batch."""
    return _BY_CODE.get(code, f"code {code}") if code else ""


def stamp(milliseconds: int) -> Timestamp:
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def milliseconds(given: Timestamp) -> int:
    return int(given.seconds * 1000 + given.nanos // 1_000_000)


def delivery(task: Task, claim: Claim) -> Delivery:
    """What a message brought."""
    return Delivery(
        id=task.id,
        topic=task.topic,
        nonce=task.nonce,
        consumer=task.consumer,
        scheduled=milliseconds(task.scheduled),
        consumed=milliseconds(task.consumed),
        deadline=milliseconds(task.deadline),
        claim=claim,
    )


def commit_message(commit: Commit) -> tasks_pb.CommitTaskRequest:
    message = CommitMessage(nonce=commit.nonce, state=commit.state + 1, payload=commit.payload.encode())
    if commit.scheduled is not None:
        message.scheduled.CopyFrom(stamp(commit.scheduled))
    return tasks_pb.CommitTaskRequest(id=commit.id, commit=message)


class Unary:
    """The unary calls of gRPC."""

    def __init__(self, target: str, history: History) -> None:
        self._client = Client(target, CHANNEL)
        self._history = history

    async def close(self) -> None:
        await self._client.channel.close()

    async def _call(self, call: Awaitable[T]) -> tuple[T | None, str]:
        try:
            return await call, ""
        except grpc.aio.AioRpcError as error:
            return None, reason_of(error)

    async def insert(self, inserts: Sequence[Insert]) -> None:
        self._history.inserts += inserts
        messages = [Task(id=one.id, topic=one.topic, payload=one.payload.encode()) for one in inserts]
        for one, message in zip(inserts, messages, strict=True):
            if one.scheduled is not None:
                message.scheduled.CopyFrom(stamp(one.scheduled))
        if len(inserts) == 1:
            request = tasks_pb.InsertTaskRequest(task=messages[0])
            _, reason = await self._call(self._client.tasks.InsertTask(request, timeout=CALL_SECONDS))
            settle(inserts[0].span, reason)
            return
        request = tasks_pb.InsertTasksRequest(tasks=messages)
        answer, reason = await self._call(self._client.tasks.InsertTasks(request, timeout=CALL_SECONDS))
        existing = set(answer.existing_ids) if answer is not None else set()
        for one in inserts:
            settle(one.span, "TASK_EXISTS" if one.id in existing else reason)

    async def claim(self, topic: str, consumer: str, timeout: int) -> list[Delivery]:
        """Claim, and ask again when the answer is lost."""
        name = f"r{next(_requests)}"
        request = promises_pb.ClaimTasksRequest(topic=topic, consumer=consumer, limit=5, request_id=name)
        request.timeout.CopyFrom(Duration(seconds=timeout // 1000, nanos=timeout % 1000 * 1_000_000))
        request.wait.CopyFrom(Duration(seconds=WAIT_SECONDS))
        for _ in range(3):
            claim = Claim(consumer, (topic,), Span(), request=name)
            self._history.claims.append(claim)
            answer, reason = await self._call(self._client.promises.ClaimTasks(request, timeout=CALL_SECONDS))
            received = [delivery(task, claim) for task in answer.tasks] if answer is not None else []
            self._history.deliveries += received  # before the end, so that a journal never lacks what an answer brought
            settle(claim.span, reason)
            if answer is not None:
                return received
            await asyncio.sleep(0.1)  # between attempts
        return []

    async def commit(self, commit: Commit) -> None:
        self._history.commits.append(commit)
        request = tasks_pb.CommitTasksRequest(commits=[commit_message(commit)])
        answer, reason = await self._call(self._client.tasks.CommitTasks(request, timeout=CALL_SECONDS))
        settle(commit.span, status_reason(answer.results[0].status.code) if answer is not None else reason)

    async def extend(self, extension: Extension) -> None:
        self._history.extensions.append(extension)
        message = ExtensionMessage(id=extension.id, nonce=extension.nonce, deadline=stamp(extension.deadline))
        request = promises_pb.ExtendPromisesRequest(extensions=[message])
        answer, reason = await self._call(self._client.promises.ExtendPromises(request, timeout=CALL_SECONDS))
        settle(extension.span, status_reason(answer.results[0].status.code) if answer is not None else reason)

    async def release(self, release: Release) -> None:
        self._history.releases.append(release)
        request = promises_pb.DeletePromiseRequest(id=release.id, nonce=release.nonce)
        answer, reason = await self._call(self._client.promises.DeletePromise(request, timeout=CALL_SECONDS))
        settle(release.span, reason if answer is None or answer.deleted else "NONCE_MISMATCH")


class Rest:
    """The same over REST."""

    def __init__(self, url: str, history: History) -> None:
        self._client = httpx.AsyncClient(base_url=f"{url}/v1/topics/", timeout=CALL_SECONDS, trust_env=False)
        self._history = history

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[Any, str]:
        try:
            answer = await self._client.request(method, path, json=body, params=query)
        except httpx.TransportError:
            return None, "TRANSPORT"
        if answer.is_success:
            return answer.json(), ""
        return None, _BY_STATUS.get(answer.status_code, f"{answer.status_code}: {answer.text}")

    async def insert(self, inserts: Sequence[Insert]) -> None:
        self._history.inserts += inserts
        bodies = []
        for one in inserts:
            body = {"_id": one.id, "payload": json.loads(one.payload)}
            if one.scheduled is not None:
                body["scheduled"] = from_ms(one.scheduled).isoformat()
            bodies.append(body)
        topic = inserts[0].topic
        if len(inserts) == 1:
            _, reason = await self._call("POST", f"{topic}/tasks/{inserts[0].id}", bodies[0])
            settle(inserts[0].span, "TASK_EXISTS" if reason == "NONCE_MISMATCH" else reason)
            return
        answer, reason = await self._call("POST", f"{topic}/tasks", {"data": bodies})
        created = len(inserts) if answer is None else answer["created"]
        for one in inserts:
            if 0 < created < len(inserts):  # which of them it does not say
                one.span.finish(Outcome.UNKNOWN)
            else:
                settle(one.span, reason if created else "TASK_EXISTS")

    async def claim(self, topic: str, consumer: str, timeout: int) -> list[Delivery]:
        claim = Claim(consumer, (topic,), Span())
        self._history.claims.append(claim)
        answer, reason = await self._call("POST", f"{topic}/promises", consumer=consumer, timeout=f"{timeout}ms")
        if answer is None:
            settle(claim.span, reason)
            await asyncio.sleep(0.05)  # a claim over REST does not wait
            return []
        times = {name: to_ms(parse_time(answer[name])) for name in ("scheduled", "consumed", "deadline")}
        one = Delivery(answer["_id"], answer["topic"], answer["nonce"], answer["consumer"], claim=claim, **times)
        self._history.deliveries.append(one)
        settle(claim.span, reason)
        return [one]

    async def commit(self, commit: Commit) -> None:
        self._history.commits.append(commit)
        body = {"nonce": commit.nonce, "state": int(commit.state), "payload": json.loads(commit.payload)}
        if commit.scheduled is not None:
            body["scheduled"] = from_ms(commit.scheduled).isoformat()
        settle(commit.span, (await self._call("PATCH", f"t/tasks/{commit.id}", body))[1])

    async def extend(self, extension: Extension) -> None:
        self._history.extensions.append(extension)
        deadline = from_ms(extension.deadline).isoformat()
        body = {"nonce": extension.nonce, "deadline": deadline}
        _, reason = await self._call("POST", f"t/promises/{extension.id}/extend", body)
        if reason == "NONCE_MISMATCH":  # also where it was extended, and has ended before it was read for the answer
            extension.span.finish(Outcome.UNKNOWN, reason)
        else:
            settle(extension.span, reason)

    async def release(self, release: Release) -> None:
        self._history.releases.append(release)
        answer, reason = await self._call("DELETE", f"t/promises/{release.id}", nonce=release.nonce)
        settle(release.span, reason if answer is None or answer["deleted"] else "NONCE_MISMATCH")
