"""Listens on sockets, watches over the connections that come in, and ends them."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import ClassVar, Final, Generic

from ratus.http2.connection import Application, Connection, Request

KEEPALIVE: Final = 30.0  # seconds of silence after which a client is asked whether it is there
KEEPALIVE_TIMEOUT: Final = 10.0  # seconds that it has for an answer
_LOOK_INTERVAL: Final = 2.0  # seconds
_PATIENCE: Final = 1.0  # seconds that a client has to take note that we drain, and to read what we said last
_SHUTDOWN_TIMEOUT: Final = 1.0  # seconds, of TLS
_BACKLOG: Final = 2048


class Listener(Generic[Request]):
    """Serves an application on sockets."""

    handshake_timeout: ClassVar[float] = 20.0  # seconds until a connection speaks TLS, and again as many until HTTP/2

    def __init__(self, application: Application[Request]) -> None:
        self._application = application
        self._connections: set[Connection[Request]] = set()
        self._servers: list[asyncio.Server] = []
        self._watch: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._draining = False

    async def start(self, sockets: list[socket.socket], context: ssl.SSLContext | None) -> None:
        """Serve, with TLS if there is a context, which agrees on h2."""
        loop = asyncio.get_running_loop()
        for one in sockets:
            server = await loop.create_server(
                self._connect,
                sock=one,
                backlog=_BACKLOG,
                ssl=context,
                ssl_handshake_timeout=self.handshake_timeout if context else None,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT if context else None,
            )
            self._servers.append(server)
        self._watch = asyncio.create_task(self._look_after_all())

    async def drain(self, grace: float) -> None:
        """Listen no more, let what is under way end within `grace` seconds, and end all connections."""
        for server in self._servers:
            server.close()
        self._draining = True
        self._tell(Connection.drain)
        await self._wait(min(_PATIENCE, grace))
        self._tell(Connection.refuse_more)
        await self._wait(grace)
        self._tell(Connection.end)
        await self._wait(_PATIENCE)
        self._tell(Connection.abort)
        await self._wait(_PATIENCE)
        if self._watch is not None:
            self._watch.cancel()

    def opened(self, connection: Connection[Request]) -> None:
        """Look after a connection, or end it if the system had accepted it when we began to drain."""
        self._connections.add(connection)
        if self._draining:
            connection.drain()

    def lost(self, connection: Connection[Request]) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _connect(self) -> Connection[Request]:
        return Connection(self._application, self)

    def _tell(self, what: Callable[[Connection[Request]], None]) -> None:
        for connection in list(self._connections):
            what(connection)

    async def _wait(self, seconds: float) -> None:
        """Wait until there is no connection, but no longer than that."""
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)

    async def _look_after_all(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_INTERVAL, self.handshake_timeout / 4))
            self._tell(self._look_after)

    def _look_after(self, connection: Connection[Request]) -> None:
        """Ask a silent client whether it is there, and end the connection if it is not.

        It is asked first in any case: where the process stood still, silence tells nothing.
        """
        silence = connection.silence()
        if not connection.greeted:
            if silence > self.handshake_timeout:
                connection.abort()
        elif (silence if connection.closing else connection.unanswered()) > KEEPALIVE_TIMEOUT:
            connection.abort()
        elif silence > KEEPALIVE:
            connection.ping()
