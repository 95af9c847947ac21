"""Bodies: absent or one JSON object, turned into the model.

`null` counts as absent everywhere and an empty string in every field but the payload; unknown fields are ignored.
Names, states, bounds and payloads are checked behind the backend.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from gateway import queries
from ratus.errors import BadRequest
from ratus.forms import TaskBody, task_input
from ratus.model import ClaimRequest, Commit, Extension, Promise, TaskInput
from ratus.rules import each
from ratus.times import parse_duration, parse_time

B = TypeVar("B")
T = TypeVar("T")


class TasksBody(Struct, kw_only=True):
    """A batch of tasks."""

    data: list[TaskBody] | None = None


class PromiseBody(Struct, kw_only=True):
    """A promise to make."""

    id: str | None = field(name="_id", default=None)
    consumer: str | None = None
    deadline: str | None = None
    timeout: str | None = None


class ClaimBody(PromiseBody, kw_only=True):
    """A promise to make on the task that it names, or on the next ones of the topic."""

    wait: str | None = None
    limit: int | None = None
    request_id: str | None = None


class ExtensionBody(Struct, kw_only=True):
    """A new deadline for a promise."""

    id: str | None = field(name="_id", default=None)
    nonce: str | None = None
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


class CommitEntry(CommitBody, kw_only=True):
    """A commit of a batch, which names its task."""

    id: str | None = field(name="_id", default=None)


class CommitsBody(Struct, kw_only=True):
    """A batch of commits."""

    data: list[CommitEntry] | None = None


_task: Final = msgspec.json.Decoder(TaskBody)
_tasks: Final = msgspec.json.Decoder(TasksBody)
_promise: Final = msgspec.json.Decoder(PromiseBody)
_claim: Final = msgspec.json.Decoder(ClaimBody)
_extension: Final = msgspec.json.Decoder(ExtensionBody)
_commit: Final = msgspec.json.Decoder(CommitBody)
_commits: Final = msgspec.json.Decoder(CommitsBody)
_NO_PROMISE: Final = PromiseBody()
_NO_CLAIM: Final = ClaimBody()
_NO_EXTENSION: Final = ExtensionBody()
_PLACE: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def task(body: bytes, topic: str, id: str) -> TaskInput:
    """The task of a body on the path of this topic and id."""
    given = _decode(_task, body)
    if given.id and given.id != id:
        raise BadRequest("task ID is inconsistent with the path parameter", field="id", bare=True)
    return task_input(given, topic, id)


def tasks(body: bytes, topic: str) -> list[TaskInput]:
    """The batch of tasks of a body on the path of this topic; errors name the entry."""
    given = _decode(_tasks, body).data or []
    return each(given, "tasks", lambda entry: task_input(entry, topic, entry.id or ""))


def promise(body: bytes, query: Mapping[str, str], id: str = "") -> Promise:
    """The promise of a body and a query, which wins, on the path of this id."""
    return _promise_of(_decode(_promise, body) if body else _NO_PROMISE, query, id)


class Claim(NamedTuple):
    """A claim on the next tasks of a topic, and whether it is answered with a list."""

    request: ClaimRequest
    listed: bool


def claim(body: bytes, query: Mapping[str, str], topic: str) -> Promise | Claim:
    """The claim of a body and a query, which wins, on the path of this topic; a promise if it names a task."""
    given = _decode(_claim, body) if body else _NO_CLAIM
    promise = _promise_of(given, query, "")
    wait = _over(query, "wait", given.wait, queries.to_duration)
    limit = queries.int32(query, "limit") if "limit" in query else given.limit
    request_id = query.get("request_id") or given.request_id
    if promise.id:
        for name, value in (("wait", wait), ("limit", limit), ("request_id", request_id)):
            if value not in (None, ""):
                raise BadRequest("is for claims on the next tasks, and this one names its task", field=name)
        return promise
    request = ClaimRequest(
        topic=topic,
        consumer=promise.consumer,
        deadline=promise.deadline,
        timeout=promise.timeout,
        limit=1 if limit is None else queries.to_int32(limit),
        wait=wait,
        request_id=request_id or "",
    )
    return Claim(request, limit is not None)


def extension(body: bytes, query: Mapping[str, str], id: str) -> Extension:
    """The extension of a body and a query, which wins, on the path of this id."""
    given = _decode(_extension, body) if body else _NO_EXTENSION
    _check_promise_id(given.id, id)
    return Extension(
        id=id,
        nonce=query.get("nonce") or given.nonce or "",
        deadline=_over(query, "deadline", given.deadline, parse_time),
        timeout=_over(query, "timeout", given.timeout, queries.to_duration),
    )


def _check_promise_id(given: str | None, id: str) -> None:
    if id and given and given != id:
        raise BadRequest("promise ID is inconsistent with the path parameter", field="id", bare=True)


def _promise_of(given: PromiseBody, query: Mapping[str, str], id: str) -> Promise:
    _check_promise_id(given.id, id)
    return Promise(
        id=id or given.id or "",
        consumer=query.get("consumer") or given.consumer or "",
        deadline=_over(query, "deadline", given.deadline, parse_time),
        timeout=_over(query, "timeout", given.timeout, parse_duration),
    )


def _over(query: Mapping[str, str], name: str, given: str | None, parse: Callable[[str, str], T]) -> T | None:
    """What a query says, else what a body does, which must not be malformed even where the query wins."""
    of_body = parse(given, name) if given else None
    text = query.get(name)
    return parse(text, name) if text else of_body


def commit(body: bytes, id: str) -> Commit:
    """The commit of a body on the path of this id."""
    if not body:
        return Commit(id=id)
    return _commit_of(_decode(_commit, body), id)


def commits(body: bytes) -> list[Commit]:
    """The batch of commits of a body, in its order; errors name the entry."""
    given = _decode(_commits, body, "commits").data or []
    return each(given, "commits", lambda entry: _commit_of(entry, entry.id or ""))


def _commit_of(given: CommitBody, id: str) -> Commit:
    return Commit(
        id=id,
        nonce=given.nonce or "",
        topic=given.topic or "",
        state=given.state,
        scheduled=parse_time(given.scheduled, "scheduled") if given.scheduled else None,
        payload=given.payload if bytes(given.payload) else None,
        defer=parse_duration(given.defer, "defer") if given.defer else None,
    )


def _decode(decoder: msgspec.json.Decoder[B], body: bytes, entries: str = "tasks") -> B:
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
        raise BadRequest(str(error)[: place.start()], field=place["path"].replace("data[", f"{entries}[", 1)) from None
