"""Streams whose clients go away at the worst of moments."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from ratus.errors import BadRequest, Draining, Internal, StorageUnavailable, TooMany
from ratus.model import PollRequest, Task
from tests.gateway.asgi import Connection, task
from tests.gateway.stub_backend import StubBackend


class StubStream:
    """Answers `next` with what is fed to it."""

    def __init__(self) -> None:
        self._fed: asyncio.Queue[list[Task] | Exception] = asyncio.Queue()
        self._asks: asyncio.Queue[timedelta | None] = asyncio.Queue()
        self.given_back: list[list[str]] = []
        self.closed = asyncio.Event()

    def feed(self, *tasks: Task) -> None:
        self._fed.put_nowait(list(tasks))

    def fail(self, error: Exception) -> None:
        self._fed.put_nowait(error)

    async def asked(self) -> timedelta | None:
        """Wait until `next` has been asked once more; for how long."""
        return await self._asks.get()

    @property
    def was_asked(self) -> bool:
        return not self._asks.empty()

    async def next(self, idle: timedelta | None = None) -> list[Task]:
        self._asks.put_nowait(idle)
        fed = await self._fed.get()
        if isinstance(fed, Exception):
            raise fed
        return fed

    def close(self, unsent: Sequence[Task] = ()) -> None:
        self.given_back.append([task.id for task in unsent])
        self.closed.set()


class StreamBackend(StubBackend):
    def __init__(self, stream: StubStream | Exception) -> None:
        super().__init__()
        self._stream = stream
        self.requests: list[PollRequest] = []

    def subscribe(self, request: PollRequest) -> StubStream:
        self.requests.append(request)
        if isinstance(self._stream, Exception):
            raise self._stream
        return self._stream


def stream_of(query: bytes = b"") -> tuple[StubStream, Connection, asyncio.Task[None]]:
    stream, connection = StubStream(), Connection("GET", "/v1/topics/t/stream", query)
    return stream, connection, connection.start(StreamBackend(stream))


async def test_gone_before_the_first_task() -> None:
    stream, connection, serving = stream_of()
    assert await stream.asked() == timedelta(milliseconds=200)
    connection.go()
    await serving
    assert (connection.sent, stream.given_back) == ([], [[]])
    assert connection.counted(499) == 1


async def test_gone_while_it_waits() -> None:
    stream, connection, serving = stream_of()
    stream.feed(task("a"))
    stream.feed()
    await stream.asked()
    assert [await stream.asked(), await stream.asked()] == [timedelta(seconds=15)] * 2
    connection.go()
    await serving
    assert stream.given_back == [[]]
    assert connection.counted(200) == 1


async def test_gone_as_tasks_come() -> None:
    stream, connection, serving = stream_of()
    stream.feed()
    await stream.asked()
    await stream.asked()
    connection.go()
    stream.feed(task("a"))  # is on its way to the handler before that is cancelled
    await serving
    assert stream.given_back == [["a"]]
    assert b"_id" not in connection.body


async def test_gone_while_a_write_is_blocked() -> None:
    stream, connection, serving = stream_of()
    stream.feed()
    await stream.asked()
    await stream.asked()
    connection.writable.clear()
    stream.feed(task("a"), task("b"))
    await connection.blocked.wait()
    assert not stream.was_asked
    connection.go()
    await serving
    assert stream.given_back == [["a", "b"]]
    assert b"_id" not in connection.body


async def test_nothing_is_claimed_while_a_write_is_blocked() -> None:
    stream, connection, serving = stream_of()
    stream.feed()
    await stream.asked()
    await stream.asked()
    connection.writable.clear()
    stream.feed(*(task(str(n), 30_000) for n in range(7)))  # in pieces of three
    await connection.blocked.wait()
    assert not stream.was_asked
    connection.writable.set()
    await stream.asked()
    pieces = [message["body"].count(b"event: task") for message in connection.sent[1:]]
    assert [piece for piece in pieces if piece] == [3, 3, 1]
    connection.go()
    await serving
    assert stream.given_back == [[]]


async def test_what_was_behind_a_blocked_piece_is_given_back() -> None:
    stream, connection, serving = stream_of()
    stream.feed(*(task(str(n), 30_000) for n in range(7)))

    async def send(message: Any, then: Any = connection._send) -> None:
        await then(message)
        if len(connection.sent) == 2:  # the first piece; the next one finds the buffers full
            connection.writable.clear()

    connection._send = send  # type: ignore[method-assign]
    await connection.blocked.wait()
    connection.go()
    await serving
    assert stream.given_back == [["3", "4", "5", "6"]]


async def test_cancelled_at_the_end_of_the_grace() -> None:
    stream, connection, serving = stream_of()
    stream.feed()
    await stream.asked()
    await stream.asked()
    connection.writable.clear()
    stream.feed(task("a"))
    await connection.blocked.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert stream.given_back == [["a"]]


@pytest.mark.parametrize("blocked", [False, True])
async def test_a_drain_of_the_face_ends_what_no_backend_could(blocked: bool) -> None:
    stream, connection, serving = stream_of()
    stream.feed()
    await stream.asked()
    await stream.asked()
    if blocked:
        connection.writable.clear()
        stream.feed(task("a"))
        await connection.blocked.wait()
    connection.app.drain()
    connection.app.drain()
    await stream.closed.wait()
    assert stream.given_back == [["a"] if blocked else []]
    connection.writable.set()
    await serving
    assert connection.body.endswith(b'{"error":{"code":503,"message":"service unavailable: connect elsewhere"}}\n\n')
    assert b"_id" not in connection.body


async def test_a_drain_and_a_client_that_goes_away() -> None:
    stream, connection, serving = stream_of()
    stream.feed()
    await stream.asked()
    await stream.asked()
    connection.go()
    connection.app.drain()
    await serving
    assert stream.given_back == [[]]


@pytest.mark.parametrize("error", [BadRequest("no"), TooMany("streams"), Draining("x"), StorageUnavailable("x")])
@pytest.mark.parametrize("late", [False, True])
async def test_an_error_before_the_first_byte_is_an_answer(error: Exception, late: bool) -> None:
    connection = Connection("GET", "/v1/topics/t/stream")
    stream = StubStream()
    stream.fail(error)
    await connection.start(StreamBackend(stream if late else error))
    assert connection.status in (400, 429, 503)
    assert connection.body.startswith(b'{"error":{"code":%d,' % connection.status)
    assert stream.given_back == ([[]] if late else [])


@pytest.mark.parametrize(
    ("error", "code"), [(Draining("x"), 503), (StorageUnavailable("x"), 503), (Internal("x"), 500)]
)
async def test_an_error_later_ends_the_stream(error: Exception, code: int) -> None:
    stream, connection, serving = stream_of()
    stream.feed(task("a"))
    stream.fail(error)
    await serving
    assert connection.status == 200
    assert connection.body.endswith(b"}}\n\n")
    assert b'event: error\ndata: {"error":{"code":%d,' % code in connection.body
    assert not connection.sent[-1].get("more_body", False)
    assert stream.given_back == [[]]


async def test_a_fault_later_leaves_the_stream_without_an_end(caplog: pytest.LogCaptureFixture) -> None:
    stream, connection, serving = stream_of()
    stream.feed(task("a"))
    stream.fail(ValueError("a bug"))
    await serving
    assert connection.sent[-1]["more_body"]
    assert b"a bug" not in connection.body
    assert "a bug" in caplog.text
    assert connection.counted(200) == 1
    assert stream.given_back == [[]]


async def test_what_is_asked_for() -> None:
    query = b"topic=b&topic=c%2Fd&consumer=c&timeout=1m&max_in_flight=7&max_bytes=9223372036854775807"
    connection = Connection("GET", "/topics/a/stream", query + b"&release_on_close=True&heartbeat=3s")
    backend = StreamBackend(Draining())
    await connection.start(backend)
    assert backend.requests == [
        PollRequest(
            topics=["a", "b", "c/d"],
            consumer="c",
            timeout=timedelta(minutes=1),
            max_in_flight=7,
            max_bytes=2**63 - 1,
            release_on_close=True,
            heartbeat=timedelta(seconds=3),
        )
    ]
