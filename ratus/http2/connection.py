"""One connection: frames come in and go out, in the bounds that either side sets."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

from ratus.http2 import frames
from ratus.http2.errors import ConnectionFault, StreamFault
from ratus.http2.frames import Code
from ratus.http2.headers import MAX_LIST, RESET_TABLE, Decoder, Headers
from ratus.http2.stream import Stream

Request = TypeVar("Request")

STREAM_WINDOW: Final = 1024 * 1024  # bytes that a client may send on a stream before they are taken
CONNECTION_WINDOW: Final = 16 * 1024 * 1024  # the same on all streams; what comes in is taken at once
FRAME: Final = 64 * 1024  # bytes of a payload, either way
MAX_STREAMS: Final = 100_000  # of a connection at once
MAX_LINGERING: Final = 1_000  # calls at work whose clients have gone; then nothing more is read until some have ended
MAX_BLOCK: Final = 2 * MAX_LIST  # bytes of a header block, with nine for each of its frames
MAX_UNREAD: Final = 1024 * 1024  # bytes for a client that makes us answer frame by frame, and does not read
MAX_UNSENT: Final = 64 * 1024 * 1024  # bytes of answers that wait for a client to read; then it gets no new streams

_SETTINGS: Final = frames.settings(
    {
        frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        frames.MAX_FRAME_SIZE: FRAME,
        frames.MAX_HEADER_LIST_SIZE: MAX_LIST,
    }
) + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
_SETTINGS_ACK: Final = frames.frame(frames.SETTINGS, frames.ACK, 0)
_GOODBYE: Final = b"goodbye!"  # of the ping that tells when the client knows that we drain
_ALIVE: Final = b"alive..?"


class Application(Protocol[Request]):
    """What makes streams of requests."""

    def read(self, headers: Headers) -> Request:
        """What a head asks for; kept while the same comes again. StreamFault if it is malformed."""
        ...

    def open(self, connection: "Connection[Request]", number: int, request: Request) -> Stream:
        """The stream that serves it."""
        ...


class Connection(asyncio.Protocol, Generic[Request]):
    """Serves one client.

    `everyone` holds the connections that are open, this one among them while it is; `lost` is called when it is no
    longer.
    """

    def __init__(
        self,
        application: Application[Request],
        everyone: set["Connection[Request]"],
        lost: Callable[[], None],
    ) -> None:
        self._application = application
        self._everyone = everyone
        self._lost = lost
        self._decoder = Decoder(application.read)
        self._transport: asyncio.Transport
        self._streams: dict[int, Stream] = {}
        self._waiting: dict[int, Stream] = {}  # those with data that waits for room
        self._unread = b""  # the beginning of a frame
        self._block: list[bytes] | None = None  # a header block that goes on, with its head in front
        self._block_size = 0
        self._last = 0  # the highest stream that a client has opened
        self._refused_beyond = frames.LAST_STREAM
        self._window = frames.DEFAULT_WINDOW  # bytes that the client still takes
        self._owed = 0  # bytes that have come in since the client was last allowed more
        self._frame = frames.DEFAULT_FRAME  # bytes of a payload that the client takes
        self._table_reset = b""
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []  # what is written at the end of this turn
        self._held_size = 0
        self._full = False  # the system takes no more
        self._lingering = 0
        self._draining = False
        self._closing = False
        self.initial_window = frames.DEFAULT_WINDOW
        self.unsent = 0  # bytes of all streams that wait for room
        self.greeted = False  # the client speaks HTTP/2
        self._heard = monotonic()  # when something came in last
        self._pinged = False  # since then

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's is no subclass
        """Begin."""
        self._transport = transport
        self._everyone.add(self)
        transport.write(_SETTINGS)

    def connection_lost(self, error: Exception | None) -> None:
        """End all streams."""
        self._closing = True
        self._everyone.discard(self)
        streams, self._streams = self._streams, {}
        self._waiting.clear()
        for stream in streams.values():
            stream.lose()
        self._lost()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._full = False
        self._send_waiting()

    def eof_received(self) -> None:
        """The client says no more; with that the connection ends."""

    # What comes in

    def data_received(self, data: bytes) -> None:
        """Read the frames that are complete."""
        if self._closing:
            return
        self._heard, self._pinged = monotonic(), False
        if self._unread:
            data = self._unread + data
        try:
            self._unread = self._read(data)
        except ConnectionFault as fault:
            self._fail(fault)

    def _read(self, data: bytes) -> bytes:
        """Read frames; what is left of the last, which has not come as a whole."""
        at, end = 0, len(data)
        if not self.greeted:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            if end < len(frames.PREFACE) + frames.HEAD_SIZE:
                return data
            at = len(frames.PREFACE)
            if data[at + 3] != frames.SETTINGS:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.greeted = True
        unpack = frames.HEAD.unpack_from
        while end - at >= frames.HEAD_SIZE:
            high, low, kind, flags, number = unpack(data, at)
            size = high << 8 | low
            if size > FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame exceeds {FRAME} bytes")
            begin = at + frames.HEAD_SIZE
            if end - begin < size:
                break
            at = begin + size
            try:
                self._serve(kind, flags, number & frames.LAST_STREAM, data[begin:at])
            except StreamFault as fault:
                self.reset(number & frames.LAST_STREAM, fault.code)
            if self._closing:
                return b""
        return data[at:]

    def _serve(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or number != self._block_stream):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._headers(flags, number, payload)
        elif kind < len(_OTHERS):
            _OTHERS[kind](self, flags, number, payload)  # those of a type that nobody knows are ignored

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        self._owed += size
        if self._owed >= CONNECTION_WINDOW // 2:
            self._write(frames.window_update(0, self._owed))
            self._owed = 0
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last or not number % 2:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "data on a stream that is not open")
            return  # we have ended it, which the client did not know yet
        if stream.ended:
            raise StreamFault(Code.STREAM_CLOSED, "data behind the end of a stream")
        stream.owed += size
        if stream.owed > STREAM_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "more data than was allowed")
        if flags & frames.END_STREAM:
            stream.ended = True
            if payload:
                stream.received(payload)
            if not stream.closed:
                stream.received_all()
        elif payload:
            stream.received(payload)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number % 2:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream with an even number")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS are too short for their priority")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._head(flags, number, payload)
        else:
            self._block, self._block_size = [payload], len(payload)
            self._block_stream, self._block_flags = number, flags

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block.append(payload)
        self._block_size += len(payload) + frames.HEAD_SIZE
        if self._block_size > MAX_BLOCK:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"a header block exceeds {MAX_BLOCK} bytes")
        if flags & frames.END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._head(self._block_flags, number, block)

    def _head(self, flags: int, number: int, block: bytes) -> None:
        known = self._streams.get(number)
        try:
            request = self._decoder.decode(block)
        except StreamFault:
            self._last = max(self._last, number)
            raise
        if known is not None:  # trailers, which nobody wants
            if known.ended or not flags & frames.END_STREAM:
                raise StreamFault(Code.PROTOCOL_ERROR, "a second head")
            known.ended = True
            known.received_all()
            return
        if number <= self._last:
            return  # we have ended it, which the client did not know yet
        self._last = number
        full = len(self._streams) >= MAX_STREAMS or self.unsent > MAX_UNSENT
        if number > self._refused_beyond or full:
            self._write(frames.rst_stream(number, Code.REFUSED_STREAM))
            return
        stream = self._streams[number] = self._application.open(self, number, request)
        if flags & frames.END_STREAM:
            stream.ended = True
            stream.received_all()

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed RST_STREAM")
        if not number or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM of a stream that is not open")
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._waiting.pop(number, None)
            stream.lose()
            self._close_if_done()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed SETTINGS")
        if flags & frames.ACK:
            return
        for key, value in frames.read_settings(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
                more, self.initial_window = value - self.initial_window, value
                for stream in self._streams.values():
                    stream.window += more
            elif key == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME <= value <= frames.MAX_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame size out of range")
                self._frame = min(value, FRAME)
            elif key == frames.HEADER_TABLE_SIZE and value < frames.DEFAULT_TABLE:
                self._table_reset = RESET_TABLE
            elif key == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        self._reply(_SETTINGS_ACK)
        self._send_waiting()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed PING")
        if not flags & frames.ACK:
            self._reply(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _GOODBYE and self._draining:
            self.refuse_more()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed WINDOW_UPDATE")
        more = frames.read_number(payload)
        if not number:
            if not more:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window that does not grow")
            self._window += more
            if self._window > frames.MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
            self._send_waiting()
            return
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window of a stream that is not open")
            return
        if not more:
            raise StreamFault(Code.PROTOCOL_ERROR, "a window that does not grow")
        stream.window += more
        if stream.window > frames.MAX_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
        if stream.out:
            self.send(stream)

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        """The client opens no more streams; it ends the connection when it has what it waits for."""

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        """All streams are alike."""

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    # What goes out

    def write(self, data: bytes) -> None:
        """Hand frames to the system that take no room in windows."""
        if self._table_reset and data[3] == frames.HEADERS:
            data = self._with_table_reset(data)
        self._write(data)

    def answer(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> None:
        """Send a whole answer, and close the stream."""
        size = len(data)
        room = size <= self._window and size <= stream.window and size <= self._frame and not self._full
        if not room or self._table_reset:
            stream.begin(head)
            stream.send(data)
            stream.finish(trailers)
            return
        self._window -= size
        stream.closed = True
        number, pack = stream.number, frames.HEAD.pack
        self.close_stream(
            stream,
            b"".join(
                (
                    pack(0, len(head), frames.HEADERS, frames.END_HEADERS, number),
                    head,
                    pack(size >> 8, size & 0xFF, frames.DATA, 0, number),
                    data,
                    pack(0, len(trailers), frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number),
                    trailers,
                )
            ),
        )

    def send(self, stream: Stream) -> None:
        """Send the data of a stream as far as there is room; the rest when there is."""
        out = stream.out
        while out:
            room = min(self._window, stream.window, self._frame)
            if room <= 0 or self._full:
                self._waiting[stream.number] = stream
                return
            data = out[0]
            if len(data) <= room:
                out.popleft()
            else:
                whole = memoryview(data)
                data, out[0] = whole[:room], whole[room:]
            self._window -= len(data)
            stream.window -= len(data)
            self.unsent -= len(data)
            self._write(frames.frame(frames.DATA, 0, stream.number, data))
        self._waiting.pop(stream.number, None)
        stream.all_out()

    def _send_waiting(self) -> None:
        """Send what waits, in turn, as far as there is room."""
        for number, stream in list(self._waiting.items()):
            if self._full or self._window <= 0:
                return
            if stream.window > 0 and self._waiting.pop(number, None) is not None:
                self.send(stream)  # which puts it behind the others if something is left

    def allow(self, stream: Stream) -> None:
        """Let the client send on a stream what it has sent, once that is worth a frame."""
        if stream.owed >= STREAM_WINDOW // 2:
            self._write(frames.window_update(stream.number, stream.owed))
            stream.owed = 0

    def close_stream(self, stream: Stream, data: bytes) -> None:
        """Write the last of an answer, and forget the stream."""
        self.write(data)
        if not stream.ended:  # the client need say no more
            self._write(frames.rst_stream(stream.number, Code.NO_ERROR))
        self._streams.pop(stream.number, None)
        self._close_if_done()

    def reset(self, number: int, code: Code) -> None:
        """End a stream without an answer."""
        if not self._closing:
            self._write(frames.rst_stream(number, code))
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._waiting.pop(number, None)
            stream.lose()
        self._close_if_done()

    def _write(self, data: bytes) -> None:
        """Write at the end of this turn of the event loop, with all else that is ready by then.

        Each packet for a client on the same machine may put that client in our place on the processor at once.
        """
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > FRAME:
            self._flush()

    def _flush(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()
        self._held_size = 0

    def _reply(self, data: bytes) -> None:
        if self._transport.get_write_buffer_size() > MAX_UNREAD:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "answers are not read")
        self._write(data)

    def _with_table_reset(self, data: bytes) -> bytes:
        """The first header block begins with a change of the table that the client has asked for."""
        high, low, kind, flags, number = frames.HEAD.unpack_from(data)
        size = (high << 8 | low) + len(self._table_reset)
        head = frames.HEAD.pack(size >> 8, size & 0xFF, kind, flags, number)
        data = head + self._table_reset + data[frames.HEAD_SIZE :]
        self._table_reset = b""
        return data

    # Its end

    def lingers(self, number: int) -> None:
        """So many calls more, or fewer, are at work for nobody."""
        was = self._lingering
        self._lingering += number
        if self._closing:
            return
        if was < MAX_LINGERING <= self._lingering:
            self._transport.pause_reading()
        elif was >= MAX_LINGERING > self._lingering:
            self._transport.resume_reading()

    def silence(self) -> float:
        """Seconds since something came in."""
        return monotonic() - self._heard

    def ping(self) -> None:
        """Make a silent client say something."""
        if not self._pinged:
            self._pinged = True
            self._write(frames.frame(frames.PING, 0, 0, _ALIVE))

    def drain(self) -> None:
        """Ask the client to open no more streams; with the last of those that are open the connection ends."""
        if not self.greeted:
            self.abort()
            return
        self._draining = True
        for stream in list(self._streams.values()):
            stream.drain()
        self._write(frames.goaway(frames.LAST_STREAM, Code.NO_ERROR) + frames.frame(frames.PING, 0, 0, _GOODBYE))

    def refuse_more(self) -> None:
        """Serve no streams but those that are open, and say so."""
        if self._refused_beyond == frames.LAST_STREAM and not self._closing:
            self._refused_beyond = self._last
            self._write(frames.goaway(self._last, Code.NO_ERROR))
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._refused_beyond != frames.LAST_STREAM and not self._streams and not self._closing:
            self._close()

    def end(self) -> None:
        """End all streams without an answer, and then the connection."""
        for number in list(self._streams):
            self.reset(number, Code.CANCEL)

    def _fail(self, fault: ConnectionFault) -> None:
        self._write(frames.goaway(self._last, fault.code, str(fault)))
        self._close()

    def _close(self) -> None:
        self._flush()
        self._closing = True
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._closing = True
        self._transport.abort()


def _unpadded(payload: bytes) -> bytes:
    padding = payload[0] if payload else 0
    if padding >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - padding]


_OTHERS: Final[tuple[Any, ...]] = (
    Connection._data,
    Connection._headers,
    Connection._priority,
    Connection._rst_stream,
    Connection._settings,
    Connection._push_promise,
    Connection._ping,
    Connection._goaway,
    Connection._window_update,
    Connection._continuation,
)
