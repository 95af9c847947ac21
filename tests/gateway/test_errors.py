import json
import logging
from typing import Any, cast

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gateway import create_app, errors
from ratus.backend import Backend
from ratus.errors import (
    BadRequest,
    ClientClosed,
    Draining,
    Internal,
    NonceMismatch,
    NotFound,
    RatusError,
    StorageUnavailable,
    TaskExists,
    TaskNotPending,
    TooLarge,
    TooMany,
    Unsupported,
)
from tests.gateway.stub_backend import StubBackend

MAPPING: list[tuple[RatusError, int, str]] = [
    (BadRequest("no"), 400, "bad request: no"),
    (BadRequest("no", field="tasks[3].payload"), 400, "bad request: tasks[3].payload: no"),
    (NotFound(), 404, "not found"),
    (TaskExists(), 409, "conflict: a task with the same ID already exists"),
    (TaskNotPending(), 409, "conflict: the target task is not in pending state"),
    (NonceMismatch(), 409, "conflict: the task may have been modified by others"),
    (TooLarge("no"), 413, "too large: no"),
    (TooMany("waiters"), 429, "too many: waiters"),
    (ClientClosed(), 499, "client closed request"),
    (Unsupported("use mongodump"), 501, "not supported: use mongodump"),
    (StorageUnavailable("no primary"), 503, "service unavailable: no primary"),
    (Draining(), 503, "service unavailable: connect elsewhere"),
]
CALLS = [
    ("GET", "/topics", None),
    ("DELETE", "/topics", None),
    ("GET", "/topics/t", None),
    ("DELETE", "/topics/t", None),
    ("GET", "/topics/t/tasks", None),
    ("POST", "/topics/t/tasks", "{}"),
    ("PUT", "/topics/t/tasks", "{}"),
    ("DELETE", "/topics/t/tasks", None),
    ("GET", "/topics/t/tasks/i", None),
    ("POST", "/topics/t/tasks/i", "{}"),
    ("PUT", "/topics/t/tasks/i", "{}"),
    ("PATCH", "/topics/t/tasks/i", "{}"),
    ("DELETE", "/topics/t/tasks/i", None),
    ("GET", "/topics/t/promises", None),
    ("POST", "/topics/t/promises", None),
    ("POST", "/topics/t/promises", '{"_id":"i"}'),
    ("DELETE", "/topics/t/promises", None),
    ("GET", "/topics/t/promises/i", None),
    ("POST", "/topics/t/promises/i", None),
    ("PUT", "/topics/t/promises/i", None),
    ("DELETE", "/topics/t/promises/i", None),
    ("GET", "/readyz", None),
]


def client(backend: StubBackend) -> httpx.AsyncClient:
    app = create_app(cast(Backend, backend), registry=CollectorRegistry())
    return httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url="http://x/v1")


@pytest.mark.parametrize(("error", "status", "message"), MAPPING)
def test_mapping(error: RatusError, status: int, message: str) -> None:
    answer = errors.answer(error)
    assert answer.status == status
    assert json.loads(answer.body) == {"error": {"code": status, "message": message}}


def test_every_error_is_mapped() -> None:
    def leaves(kind: type[RatusError]) -> list[type[RatusError]]:
        return [leaf for child in kind.__subclasses__() for leaf in leaves(child)] or [kind]

    assert {type(error) for error, _, _ in MAPPING} | {Internal} == set(leaves(RatusError))


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_an_error_of_any_call_is_answered(method: str, path: str, body: str | None) -> None:
    backend = StubBackend(error=StorageUnavailable("no primary"))
    async with client(backend) as http:
        reply = await http.request(method, path, content=body)
    assert len(backend.calls) == 1
    assert reply.status_code == 503
    assert reply.json() == {"error": {"code": 503, "message": "service unavailable: no primary"}}


@pytest.mark.parametrize("error", [Internal("the secret"), ValueError("the secret"), RecursionError("the secret")])
async def test_a_fault_goes_to_the_log_and_not_to_the_client(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(StubBackend(error=error)) as http:
        reply = await http.patch("/topics/t/tasks/i")
    assert reply.status_code == 500
    assert reply.json() == {"error": {"code": 500, "message": "internal server error"}}
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_liveness_does_not_ask_the_backend() -> None:
    backend = StubBackend()
    async with client(backend) as http:
        assert (await http.get("/livez")).status_code == (await http.get("/healthz")).status_code == 200
    assert backend.calls == []
