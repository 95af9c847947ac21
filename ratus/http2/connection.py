"""One connection, from its beginning to its end."""

import asyncio
from time import monotonic
from typing import Final, Protocol

from ratus.http2 import frames
from ratus.http2.frames import Code
from ratus.http2.headers import MAX_LIST
from ratus.http2.incoming import CONNECTION_WINDOW, MAX_STREAMS, Application, Incoming, Request
from ratus.http2.outgoing import FRAME, STREAM_WINDOW

__all__ = ["Application", "Connection", "Request"]

_SETTINGS: Final = frames.settings(
    {
        frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        frames.MAX_FRAME_SIZE: FRAME,
        frames.MAX_HEADER_LIST_SIZE: MAX_LIST,
    }
) + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
_ALIVE: Final = b"alive..?"


class Owner(Protocol[Request]):
    """What knows the connections that are open."""

    def opened(self, connection: "Connection[Request]") -> None:
        """There is a new one."""

    def lost(self, connection: "Connection[Request]") -> None:
        """It is no more."""


class Connection(Incoming[Request], asyncio.Protocol):
    """Serves one client.

    Its owner is told when it opens and when it is lost.
    """

    def __init__(self, application: Application[Request], owner: "Owner[Request]") -> None:
        super().__init__(application)
        self._owner = owner
        self._began = monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's is no subclass
        """Begin."""
        self._transport = transport
        transport.write(_SETTINGS)
        self._owner.opened(self)

    def eof_received(self) -> None:
        """The client says no more; with that the connection ends."""
        if not self._closing:
            self._close()

    def connection_lost(self, error: Exception | None) -> None:
        """End all streams."""
        self._closing = True
        self._lose_streams()
        self._owner.lost(self)

    def silence(self) -> float:
        """Seconds since something came in, or, for a client that has yet to speak HTTP/2, since it might have."""
        if self._stopped and not self._choked:
            return 0  # it is for us to listen
        return monotonic() - (self._heard if self.greeted else self._began)

    def unanswered(self) -> float:
        """Seconds for which the client has owed us the answer to a ping."""
        if self._pinged is None or (self._stopped and not self._choked):
            return 0
        return monotonic() - self._pinged

    @property
    def closing(self) -> bool:
        """Nothing but what has been written is sent, and then it ends."""
        return self._closing

    def ping(self) -> None:
        """Make a silent client say something."""
        if self._pinged is None and not self._closing:
            self._pinged = monotonic()
            self._write(frames.frame(frames.PING, 0, 0, _ALIVE))

    def drain(self) -> None:
        """Ask the client to open no more streams; with the last of those that are open the connection ends."""
        if not self.greeted:
            self.abort()
            return
        if self._closing:
            return
        self._draining = True
        for stream in list(self._streams.values()):
            stream.drain()
        self._write(frames.goaway(frames.LAST_STREAM, Code.NO_ERROR) + frames.frame(frames.PING, 0, 0, frames.GOODBYE))

    def end(self) -> None:
        """End all streams without an answer, and then the connection."""
        for number in list(self._streams):
            self.reset(number, Code.CANCEL)

    def abort(self) -> None:
        """End the connection at once."""
        self._closing = True
        self._transport.abort()
