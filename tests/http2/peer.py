"""A connection without a socket, a client that makes its frames by hand, and an application that notes what it gets."""

import asyncio
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import hpack

from ratus.http2 import frames
from ratus.http2.connection import Connection
from ratus.http2.errors import StreamFault
from ratus.http2.frames import Code
from ratus.http2.headers import Headers, encode
from ratus.http2.outgoing import Outgoing
from ratus.http2.stream import Stream

BEGIN = frames.PREFACE + frames.settings({})
HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"y")]
OPEN, END = encode([(b":status", b"200")]), encode([(b"end", b"0")])


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def number(self) -> int:
        """The number that the last four bytes are."""
        return int(struct.unpack(">I", self.payload[-4:])[0])


def split(data: bytes) -> Iterator[Frame]:
    """The frames in some bytes, which are whole."""
    while data:
        high, low, kind, flags, stream = frames.HEAD.unpack_from(data)
        end = frames.HEAD_SIZE + (high << 8 | low)
        assert len(data) >= end
        yield Frame(kind, flags, stream, data[frames.HEAD_SIZE : end])
        data = data[end:]


class Request(NamedTuple):
    fields: Headers


class Noted(Stream):
    """Notes what comes in, and says nothing by itself."""

    def __init__(self, connection: Outgoing, number: int, request: Request) -> None:
        super().__init__(connection, number)
        self.request = request
        self.data: list[bytes] = []
        self.all = 0
        self.lost = 0

    def received(self, data: bytes) -> None:
        self.data.append(data)

    def received_all(self) -> None:
        self.all += 1

    def gone(self) -> None:
        self.lost += 1

    def held(self) -> int:
        return sum(map(len, self.data))


class Noting:
    """An application whose streams are noted."""

    def __init__(self) -> None:
        self.streams: list[Noted] = []
        self.read_blocks = 0

    def read(self, headers: Headers) -> Request:
        self.read_blocks += 1
        if (b":path", b"/malformed") in headers:
            raise StreamFault(Code.PROTOCOL_ERROR, "malformed")
        if (b":path", b"/broken") in headers:
            raise ZeroDivisionError
        return Request(headers)

    def open(self, connection: Outgoing, number: int, request: Request) -> Stream:
        if (b":path", b"/unopenable") in request.fields:
            raise ZeroDivisionError
        self.streams.append(Noted(connection, number, request))
        return self.streams[-1]


class Transport(asyncio.Transport):
    """Keeps what is written; the client reads when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.unread = 0  # bytes that the client has left
        self.reads = True  # the client, all at once
        self.reading = True  # our end
        self.closed = False
        self.aborted = False
        self.protocol: Any = None
        self._full = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closing()
        self.written += data
        if not self.reads:
            self.unread += len(data)
            if self.unread > frames.DEFAULT_WINDOW and not self._full:
                self._full = True
                self.protocol.pause_writing()

    def read_all(self) -> None:
        """The client reads what is there, and from now on all that comes."""
        self.reads, self.unread = True, 0
        if self._full:
            self._full = False
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        assert not self.is_closing()
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Peer:
    """A client of a connection without a socket."""

    def __init__(self, application: Any = None, *, begin: bytes = BEGIN) -> None:
        self.application = Noting() if application is None else application
        self.everyone: set[Any] = set()
        self.losses = 0
        self.transport = Transport()
        self.connection: Connection[Any] = Connection(self.application, self)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)
        self._encoder = hpack.Encoder()
        if begin:
            self.connection.data_received(begin)

    def opened(self, connection: Connection[Any]) -> None:
        self.everyone.add(connection)

    def lost(self, connection: Connection[Any]) -> None:
        self.everyone.discard(connection)
        self.losses += 1

    def block(self, path: bytes = b"/x", *more: tuple[bytes, bytes]) -> bytes:
        """A head that asks for this path."""
        head = [(name, path if name == b":path" else value) for name, value in HEAD]
        return self._encoder.encode([*head, *more])

    def say(self, *data: bytes) -> None:
        """Send frames all at once."""
        self.connection.data_received(b"".join(data))

    def open(self, number: int, path: bytes = b"/x", flags: int = 0) -> Any:
        """Open a stream; what the application made of it, if it was asked to."""
        count = len(self.application.streams)
        self.say(frames.frame(frames.HEADERS, flags | frames.END_HEADERS, number, self.block(path)))
        return self.application.streams[-1] if len(self.application.streams) > count else None

    async def hear(self) -> list[Frame]:
        """What has been written since the last time, as frames, once all that was said is read or nothing more is."""
        await self.quiet()
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return list(split(data))

    async def quiet(self) -> None:
        """Let the connection have its turns."""
        await turns()
        while self.connection._behind and not self.connection._stopped:
            await turns()

    async def begun(self) -> "Peer":
        """Forget what any connection begins with."""
        settings, window, ack = await self.hear()
        assert (settings.kind, window.kind, ack.kind) == (frames.SETTINGS, frames.WINDOW_UPDATE, frames.SETTINGS)
        assert ack.flags == frames.ACK
        return self

    def lose(self) -> None:
        """What the event loop does once a transport is closed."""
        assert self.transport.is_closing()
        self.connection.connection_lost(None)


async def turns() -> None:
    """Let the event loop do what it has to do now, and what follows from that."""
    for _ in range(5):
        await asyncio.sleep(0)


def data(number: int, payload: bytes, flags: int = 0) -> bytes:
    return frames.frame(frames.DATA, flags, number, payload)


def of(kind: int, heard: list[Frame]) -> list[Frame]:
    """The frames of one kind."""
    return [frame for frame in heard if frame.kind == kind]


def resets(heard: list[Frame]) -> list[tuple[int, int]]:
    """The streams that were reset, and why."""
    return [(frame.stream, frame.number) for frame in of(frames.RST_STREAM, heard)]
