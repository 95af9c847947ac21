"""Claims whose clients go away at the worst of moments."""

import asyncio
from typing import Any

import pytest

from ratus.errors import StorageUnavailable
from ratus.model import Task
from tests.gateway.asgi import Connection, task
from tests.gateway.stub_backend import StubBackend


class ClaimBackend(StubBackend):
    """Its claim is answered when the client is already gone, as far as anybody could tell."""

    def __init__(self, connection: Connection, *tasks: Task, fails: Exception | None = None) -> None:
        super().__init__()
        self._connection = connection
        self._tasks = list(tasks)
        self._fails = fails
        self.cancelled = False
        self.asked = asyncio.Event()
        self.given_back: list[tuple[str, str]] = []

    async def claim_tasks(self, request: Any) -> list[Task]:
        self.asked.set()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        try:
            if self._tasks:
                await asyncio.sleep(0)  # by now the client is watched
                loop.call_soon(self._connection.go)
                loop.call_soon(answered.set_result, None)
            await answered
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self._tasks

    async def delete_promise(self, id: str, nonce: str) -> int:
        if self._fails is not None:
            raise self._fails
        self.given_back.append((id, nonce))
        return 1


@pytest.mark.parametrize("query", [b"wait=1m", b"limit=5", b"wait=1m&limit=5"])
async def test_tasks_of_a_client_that_vanished_are_given_back(query: bytes) -> None:
    connection = Connection("POST", "/topics/t/promises", query)
    backend = ClaimBackend(connection, task("a"), task("b"))
    await connection.start(backend)
    assert not backend.cancelled
    assert backend.given_back == [("a", "na"), ("b", "nb")]
    assert connection.sent == []
    assert connection.counted(499) == 1


async def test_a_claim_that_can_be_repeated_keeps_its_tasks() -> None:
    connection = Connection("POST", "/topics/t/promises", b"wait=1m&request_id=r")
    backend = ClaimBackend(connection, task("a"))
    await connection.start(backend)
    assert backend.given_back == []
    assert connection.counted(499) == 1


async def test_tasks_that_cannot_be_given_back_wait_for_their_deadline(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection("POST", "/topics/t/promises", b"limit=5")
    await connection.start(ClaimBackend(connection, task("a"), fails=StorageUnavailable("down")))
    assert connection.counted(499) == 1
    assert "wait for their deadlines" in caplog.text


async def test_a_wait_is_cancelled_with_its_client() -> None:
    connection = Connection("POST", "/topics/t/promises", b"wait=1m")
    backend = ClaimBackend(connection)
    serving = connection.start(backend)
    await backend.asked.wait()
    connection.go()
    await serving
    assert backend.cancelled
    assert connection.counted(499) == 1


async def test_a_wait_ends_with_a_drain_of_the_face() -> None:
    connection = Connection("POST", "/topics/t/promises", b"wait=1m")
    backend = ClaimBackend(connection)
    serving = connection.start(backend)
    await backend.asked.wait()
    connection.app.drain()
    await serving
    assert backend.cancelled
    assert connection.status == 503
    assert connection.body == b'{"error":{"code":503,"message":"service unavailable: connect elsewhere"}}'
    assert backend.given_back == []


async def test_a_wait_is_cancelled_at_the_end_of_the_grace() -> None:
    connection = Connection("POST", "/topics/t/promises", b"wait=1m")
    backend = ClaimBackend(connection)
    serving = connection.start(backend)
    await backend.asked.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert backend.cancelled


async def test_a_timeout_of_somebody_else_is_not_taken_for_a_lost_client() -> None:
    connection = Connection("POST", "/topics/t/promises", b"wait=1m")
    await connection.start(StubBackend(error=TimeoutError()))
    assert connection.status == 500
