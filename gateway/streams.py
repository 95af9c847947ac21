"""The endpoint that streams tasks: the delivery of `Poll` as server-sent events or as lines of JSON."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final, NoReturn

from gateway import errors, framing, queries
from gateway.answers import ALL_ORIGINS, Written
from gateway.calls import Call
from gateway.client import Client
from gateway.framing import Framing
from gateway.paths import Route
from ratus.backend import Backend, Stream
from ratus.config import DEFAULT_HEARTBEAT
from ratus.errors import ClientClosed, RatusError
from ratus.model import PollRequest, Task

# A stream begins with its first tasks, or when there have been none for so long: a backend elsewhere has had the time
# to refuse it by then, so that the refusal is an ordinary answer.
_OPENING: Final = timedelta(milliseconds=200)
_PIECE_BYTES: Final = 64 * 1024  # written at once; what is behind a piece that is stuck can still be given back


class Streams:
    """Delivers tasks as they become due, for as long as the client listens."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[Route]:
        """What is served, and by what."""
        return (Route("GET", "/topics/:topic/stream", self.stream_tasks, head=self.describe),)

    async def describe(self, call: Call) -> Written:
        """Answer HEAD: what a stream would begin with, without opening one."""
        _request(call)
        await _begin(call.client, framing.choose(call.header(b"accept")))
        await call.client.end()
        return Written(200, call.client.begun)

    async def stream_tasks(self, call: Call) -> Written:
        """Deliver tasks until the client goes away, or until an error ends the stream."""
        request, client, form = _request(call), call.client, framing.choose(call.header(b"accept"))
        delivery = _Delivery(self._backend.subscribe(request), client, form, request.heartbeat)
        failure: RatusError
        try:
            async with client.watched():
                await delivery.run()
        except RatusError as error:
            if not client.begun:
                raise
            failure = error
        finally:
            delivery.close()  # must not wait: it may be cancelled already
        if not isinstance(failure, ClientClosed):
            await client.end(form.error(errors.answer(failure)))
        return Written(200, client.begun)


class _Delivery:
    """A stream on its way to a client. Tasks are claimed only while the client takes what is written to it."""

    def __init__(self, stream: Stream, client: Client, framing: Framing, heartbeat: timedelta | None) -> None:
        self._stream = stream
        self._client = client
        self._framing = framing
        self._heartbeat = heartbeat or DEFAULT_HEARTBEAT
        self._unsent: list[Task] = []

    async def run(self) -> NoReturn:
        """Deliver until the stream fails."""
        self._unsent = await self._stream.next(_OPENING)
        await _begin(self._client, self._framing)
        while True:
            if self._unsent:
                await self._write_tasks()
            else:
                await self._client.write(self._framing.heartbeat)
            await self._client.write()  # wait until it has gone out
            self._unsent = await self._stream.next(self._heartbeat)

    async def _write_tasks(self) -> None:
        while self._unsent:
            frames: list[bytes] = []
            size = 0
            for task in self._unsent:
                frames.append(self._framing.task(task))
                size += len(frames[-1])
                if size >= _PIECE_BYTES:
                    break
            await self._client.write(b"".join(frames))
            del self._unsent[: len(frames)]

    def close(self) -> None:
        """End the stream and give back what was not written."""
        self._stream.close(self._unsent)


async def _begin(client: Client, framing: Framing) -> None:
    await client.begin(
        200,
        [
            ALL_ORIGINS,
            (b"content-type", framing.content_type),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # of nginx
            (b"connection", b"close"),
        ],
    )


def _request(call: Call) -> PollRequest:
    """The stream that is asked for; its bounds are checked behind the backend."""
    given = queries.values(call.query)
    return PollRequest(
        topics=[*filter(None, [call.topic]), *queries.repeated(call.query, "topic")],
        consumer=given.get("consumer", ""),
        timeout=queries.duration(given, "timeout"),
        max_in_flight=queries.int32(given, "max_in_flight"),
        max_bytes=queries.int64(given, "max_bytes"),
        release_on_close=queries.flag(given, "release_on_close"),
        heartbeat=queries.duration(given, "heartbeat"),
    )
