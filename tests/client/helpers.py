"""Waiting for states, and connections that break."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import ratus

PENDING, ACTIVE, COMPLETED, ARCHIVED = ratus.TaskState


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Return once a condition holds; each look is a round trip, so that this is no busy loop."""
    async with asyncio.timeout(seconds):
        while not await condition():
            pass


async def in_state(queue: ratus.Queue, id: str, state: ratus.TaskState) -> ratus.Task:
    """The task once it is in a state."""

    async def reached() -> bool:
        return (await queue.get_task(id)).state == state

    await until(reached)
    return await queue.get_task(id)


async def counts(queue: ratus.Queue, topic: str, pending: int, active: int = 0) -> None:
    """Return once a topic has so many tasks; what the server has not sent it gives back by and by."""

    async def reached() -> bool:
        stats = await queue.get_topic_stats(topic)
        return (stats.pending, stats.active) == (pending, active)

    await until(reached)


def soon(**after: float) -> datetime:
    """A time so long after now, in whole milliseconds."""
    moment = datetime.now(UTC) + timedelta(**after)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Frames:
    """Walks over the frames of one direction of an HTTP/2 connection (RFC 9113, section 4.1)."""

    _HEAD = 9  # bytes: length (3), type, flags, stream (4)
    _ANSWERS = frozenset({0, 1})  # DATA and HEADERS; the others keep the connection

    def __init__(self) -> None:
        self._head = b""
        self._left = 0  # bytes of the frame whose head has been read

    def answer_in(self, data: bytes) -> bool:
        """Whether a frame of an answer begins in what comes next."""
        found = False
        while data:
            skipped, data = data[: self._left], data[self._left :]
            self._left -= len(skipped)
            missing = self._HEAD - len(self._head)
            self._head, data = self._head + data[:missing], data[missing:]
            if len(self._head) == self._HEAD:
                found |= self._head[3] in self._ANSWERS
                self._left, self._head = int.from_bytes(self._head[:3]), b""
        return found


class Proxy:
    """Carries bytes between clients and a server, until it is told not to."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._answering = asyncio.Event()
        self._answering.set()
        self.held_back = asyncio.Event()  # an answer of the server, or a part of one, has been held back

    def mute(self) -> None:
        """Hold back what the server answers; what only keeps the connection may pass before it."""
        self._answering.clear()

    def cut(self) -> None:
        """End all connections, and what is held back with them; new ones work."""
        for writer in self._writers:
            writer.transport.abort()
        self._answering.set()
        self.held_back.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
            self._writers |= {writer, to_server}
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, to_server, asks=True))
                group.create_task(self._carry(from_server, writer, asks=False))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool) -> None:
        frames = Frames()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                answers = not asks and frames.answer_in(data)
                if answers and not self._answering.is_set():
                    self.held_back.set()
                    await self._answering.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)


@contextlib.asynccontextmanager
async def proxy(port: int) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy in front of a port of this host, and its target."""
    carrier = Proxy(port)
    server = await asyncio.start_server(carrier.serve, "127.0.0.1", 0)
    yield carrier, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    carrier.cut()
