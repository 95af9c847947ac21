"""The errors that every backend raises: the same ones, word by word."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw

from ratus.backend import Backend
from ratus.errors import BadRequest, NonceMismatch, NotFound, RatusError, TaskExists, TaskNotPending, TooLarge
from ratus.model import ClaimRequest, Commit, PageRequest, Promise, TaskInput, TaskState

COMPLETED = TaskState.COMPLETED.value


def new(id: str, topic: str = "t", **fields: Any) -> TaskInput:
    return TaskInput(id=id, topic=topic, **fields)


async def ids(backend: Backend) -> list[str]:
    return [task.id for task in (await backend.list_tasks("", PageRequest(limit=100))).items]


FAR = 99_999_999_999
ERRORS: list[tuple[Any, type[RatusError], str]] = [
    (lambda b: b.get_task("none"), NotFound, "not found"),
    (lambda b: b.get_task(""), BadRequest, "bad request: task ID must not be empty"),
    (lambda b: b.get_task("\ud800"), BadRequest, "bad request: id: not UTF-8"),
    (lambda b: b.get_task("x" * 1025), BadRequest, "bad request: id: 1025 bytes exceed the maximum of 1024"),
    (lambda b: b.get_topic("\0"), BadRequest, "bad request: topic: contains NUL"),
    (lambda b: b.get_topic(""), BadRequest, "bad request: topic must not be empty"),
    (lambda b: b.insert_task(new("a", state=FAR)), BadRequest, f"bad request: invalid state {FAR}"),
    (lambda b: b.insert_task(new("a", state=-1)), BadRequest, "bad request: invalid state -1"),
    (lambda b: b.insert_task(new("a", state=4)), BadRequest, "bad request: invalid state 4"),
    (lambda b: b.insert_task(new("a", state=-FAR)), BadRequest, f"bad request: invalid state -{FAR}"),
    (lambda b: b.insert_task(new("a", producer="\udfff")), BadRequest, "bad request: producer: not UTF-8"),
    (
        lambda b: b.insert_task(new("a", defer=timedelta(days=365 * 9000))),
        BadRequest,
        "bad request: defer: runs past the year 9999",
    ),
    (lambda b: b.insert_tasks([new("a"), new("")]), BadRequest, "bad request: task ID must not be empty"),
    (lambda b: b.insert_tasks([new("a"), new("b", state=FAR)]), BadRequest, f"bad request: invalid state {FAR}"),
    (
        lambda b: b.upsert_tasks([new("a"), new("b", nonce="\ud800")]),
        BadRequest,
        "bad request: tasks[1].nonce: not UTF-8",
    ),
    (
        lambda b: b.insert_tasks([new("a")] * 10_001),
        BadRequest,
        "bad request: tasks: 10001 entries exceed the maximum of 10000",
    ),
    (
        lambda b: b.insert_task(new("a", payload=b'"' + b"x" * (1024 * 1024) + b'"')),
        TooLarge,
        "too large: payload of 1048578 bytes exceeds the maximum of 1048576",
    ),
    (
        lambda b: b.insert_tasks([new("a"), new("b", payload=b'"' + b"x" * (1024 * 1024) + b'"')]),
        TooLarge,
        "too large: tasks[1].payload of 1048578 bytes exceeds the maximum of 1048576",
    ),
    (lambda b: b.commit_task(Commit(id="a", state=FAR)), BadRequest, f"bad request: invalid target state {FAR}"),
    (lambda b: b.commit_task(Commit(id="a", state=-1)), BadRequest, "bad request: invalid target state -1"),
    (lambda b: b.commit_task(Commit(id="a", topic="\ud800")), BadRequest, "bad request: topic: not UTF-8"),
    (lambda b: b.commit_tasks([Commit(id="")], False), BadRequest, "bad request: task ID must not be empty"),
    (lambda b: b.delete_tasks("t", FAR), BadRequest, f"bad request: invalid state {FAR}"),
    (
        lambda b: b.list_tasks("t", PageRequest(limit=FAR)),
        BadRequest,
        "bad request: exceeded maximum allowed limit of 100",
    ),
    (lambda b: b.list_topics(PageRequest(limit=-FAR)), BadRequest, "bad request: limit must not be negative"),
    (
        lambda b: b.list_promises("t", PageRequest(offset=FAR)),
        BadRequest,
        "bad request: exceeded maximum allowed offset of 10000",
    ),
    (lambda b: b.list_topics(PageRequest(offset=-1)), BadRequest, "bad request: offset must not be negative"),
    (
        lambda b: b.claim_tasks(ClaimRequest(topic="t", limit=FAR)),
        BadRequest,
        f"bad request: limit: {FAR} is not within 0 and the maximum of 1000",
    ),
    (
        lambda b: b.claim_tasks(ClaimRequest(topic="t", timeout=timedelta(days=365 * 9000))),
        BadRequest,
        "bad request: timeout: runs past the year 9999",
    ),
    (lambda b: b.insert_promise(Promise(id="")), BadRequest, "bad request: task ID must not be empty"),
    (lambda b: b.insert_promise(Promise(id="none")), NotFound, "not found"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=lambda value: str(value)[:40])
async def test_errors_read_the_same_and_nothing_is_stored(
    backend: Backend, call: Any, error: type[RatusError], message: str
) -> None:
    with pytest.raises(error) as caught:
        await call(backend)
    assert type(caught.value) is error
    assert str(caught.value) == message
    assert await ids(backend) == []


async def test_conflicts_read_the_same(backend: Backend) -> None:
    await backend.insert_task(new("a", state=COMPLETED))
    for call, error, message in (
        (backend.insert_task(new("a")), TaskExists, "conflict: a task with the same ID already exists"),
        (
            backend.insert_promise(Promise(id="a")),
            TaskNotPending,
            "conflict: the target task is not in pending state",
        ),
        (
            backend.commit_task(Commit(id="a", nonce="x")),
            NonceMismatch,
            "conflict: the task may have been modified by others",
        ),
    ):
        with pytest.raises(error) as caught:
            await call  # type: ignore[misc]
        assert str(caught.value) == message


async def test_fields_of_errors_are_kept(backend: Backend) -> None:
    for call, field in (
        (backend.insert_tasks([new("a"), new("b", state=7)]), "tasks[1].state"),
        (backend.list_tasks("t", PageRequest(limit=101)), "limit"),
        (backend.list_tasks("t", PageRequest(offset=-1)), "offset"),
        (backend.list_tasks("t", PageRequest(token="no")), "page_token"),
        (backend.commit_task(Commit(id="a", payload=Raw(b"{"))), "payload"),
    ):
        with pytest.raises(BadRequest) as caught:
            await call  # type: ignore[misc]
        assert caught.value.field == field
