"""The other end of a request, which may go away while somebody works for it.

uvicorn does not cancel handlers then: whoever waits has to watch.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from starlette.types import Receive, Send

from ratus.errors import ClientClosed, Draining


class Waiting:
    """The clients for whom somebody waits, until the server drains."""

    def __init__(self) -> None:
        self._scopes: set[asyncio.Timeout] = set()
        self._draining = False

    def drain(self) -> None:
        """End all that is waited for, and what will be."""
        self._draining = True
        for scope in self._scopes:
            _end(scope)

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[asyncio.Timeout]:
        """A block that `_end` cancels from outside; Draining if the server has."""
        if self._draining:
            raise Draining()
        async with asyncio.timeout(None) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)


class Client:
    """Who has sent a request: whether it is still there, and the way to write to it piece by piece."""

    __slots__ = ("_receive", "_send", "_waiting", "begun", "gone")

    def __init__(self, receive: Receive, send: Send, waiting: Waiting) -> None:
        self._receive = receive
        self._send = send
        self._waiting = waiting
        self.begun = 0.0  # when an answer in pieces has begun, on the clock of `time.perf_counter`
        self.gone = False  # as far as it was watched

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel what the block awaits once the client has gone away or the server drains; ClientClosed, Draining.

        Enter it when the body has been read. A block that catches the cancellation to clean up must raise it again.
        """
        watcher: asyncio.Task[None] | None = None
        try:
            async with self._waiting.scope() as scope:
                watcher = asyncio.create_task(self._watch(scope))
                yield
        except TimeoutError:
            if not scope.expired():  # somebody else's
                raise
            raise (ClientClosed() if self.gone else Draining()) from None
        finally:
            if watcher is not None:
                watcher.cancel()

    async def _watch(self, scope: asyncio.Timeout) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        _end(scope)

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Write the status and the headers of an answer that comes in pieces."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self.begun = perf_counter()

    async def write(self, piece: bytes = b"") -> None:
        """Write a piece, once what was written before is on its way; an empty one only waits for that.

        ClientClosed if the client went away before the piece was taken.
        """
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.gone:
            raise ClientClosed

    async def end(self, piece: bytes = b"") -> None:
        """Write the last piece."""
        await self._send({"type": "http.response.body", "body": piece})


def _end(scope: asyncio.Timeout) -> None:
    if not scope.expired():
        scope.reschedule(0)
