"""Bodies: absent or one JSON object, turned into the model.

`null` counts as absent everywhere and an empty string in every field but the payload; unknown fields are ignored.
Names, states, bounds and payloads are checked behind the backend.
"""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from ratus.errors import BadRequest
from ratus.model import Commit, Promise, TaskInput
from ratus.rules import each
from ratus.times import parse_duration, parse_time

B = TypeVar("B")


class TaskBody(Struct, kw_only=True):
    """A task to insert or upsert."""

    id: str | None = field(name="_id", default=None)
    topic: str | None = None
    state: int | None = None
    nonce: str | None = None
    producer: str | None = None
    consumer: str | None = None
    produced: str | None = None
    scheduled: str | None = None
    consumed: str | None = None
    deadline: str | None = None
    payload: Raw = Raw()
    defer: str | None = None


class TasksBody(Struct, kw_only=True):
    """A batch of tasks."""

    data: list[TaskBody] | None = None


class PromiseBody(Struct, kw_only=True):
    """A promise to make."""

    id: str | None = field(name="_id", default=None)
    consumer: str | None = None
    deadline: str | None = None
    timeout: str | None = None


class CommitBody(Struct, kw_only=True):
    """A commit to apply."""

    nonce: str | None = None
    topic: str | None = None
    state: int | None = None
    scheduled: str | None = None
    payload: Raw = Raw()
    defer: str | None = None


_task: Final = msgspec.json.Decoder(TaskBody)
_tasks: Final = msgspec.json.Decoder(TasksBody)
_promise: Final = msgspec.json.Decoder(PromiseBody)
_commit: Final = msgspec.json.Decoder(CommitBody)
_NO_PROMISE: Final = PromiseBody()
_PLACE: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def task(body: bytes, topic: str, id: str) -> TaskInput:
    """The task of a body on the path of this topic and id."""
    given = _decode(_task, body)
    if given.id and given.id != id:
        raise BadRequest("task ID is inconsistent with the path parameter", field="id", bare=True)
    return _task_input(given, topic, id)


def tasks(body: bytes, topic: str) -> list[TaskInput]:
    """The batch of tasks of a body on the path of this topic; errors name the entry."""
    given = _decode(_tasks, body).data or []
    return each(given, "tasks", lambda entry: _task_input(entry, topic, entry.id or ""))


def promise(body: bytes, query: Mapping[str, str], id: str = "") -> Promise:
    """The promise of a body and a query, which wins, on the path of this id."""
    given = _decode(_promise, body) if body else _NO_PROMISE
    if id and given.id and given.id != id:
        raise BadRequest("promise ID is inconsistent with the path parameter", field="id", bare=True)
    deadline = query.get("deadline") or given.deadline
    timeout = query.get("timeout") or given.timeout
    return Promise(
        id=id or given.id or "",
        consumer=query.get("consumer") or given.consumer or "",
        deadline=parse_time(deadline, "deadline") if deadline else None,
        timeout=parse_duration(timeout, "timeout") if timeout else None,
    )


def commit(body: bytes, id: str) -> Commit:
    """The commit of a body on the path of this id."""
    if not body:
        return Commit(id=id)
    given = _decode(_commit, body)
    return Commit(
        id=id,
        nonce=given.nonce or "",
        topic=given.topic or "",
        state=given.state,
        scheduled=parse_time(given.scheduled, "scheduled") if given.scheduled else None,
        payload=bytes(given.payload) or None,
        defer=parse_duration(given.defer, "defer") if given.defer else None,
    )


def _task_input(given: TaskBody, topic: str, id: str) -> TaskInput:
    return TaskInput(
        id=id,
        topic=given.topic or topic,
        state=given.state,
        nonce=given.nonce or "",
        producer=given.producer or "",
        consumer=given.consumer or "",
        produced=parse_time(given.produced, "produced") if given.produced else None,
        scheduled=parse_time(given.scheduled, "scheduled") if given.scheduled else None,
        consumed=parse_time(given.consumed, "consumed") if given.consumed else None,
        deadline=parse_time(given.deadline, "deadline") if given.deadline else None,
        payload=bytes(given.payload) or None,
        defer=parse_duration(given.defer, "defer") if given.defer else None,
    )


def _decode(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    if not body:
        raise BadRequest("missing request body")
    try:
        if not body.isascii():
            body.decode()  # fields that are not read count too: a body is JSON or it changes nothing
        return decoder.decode(body)
    except RecursionError:
        raise BadRequest("request body is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"request body is not UTF-8: {error.reason}") from None
    except msgspec.MsgspecError as error:
        place = _PLACE.search(str(error))
        if place is None:
            raise BadRequest(str(error)) from None
        raise BadRequest(str(error)[: place.start()], field=place["path"].replace("data[", "tasks[", 1)) from None
