"""What comes in on a connection: frames, in the bounds that either side sets."""

import logging
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

from ratus.http2 import frames
from ratus.http2.control import Controlled
from ratus.http2.errors import ConnectionFault, StreamFault
from ratus.http2.frames import Code
from ratus.http2.headers import MAX_LIST, Decoder, Headers
from ratus.http2.outgoing import FRAME, STREAM_WINDOW, Outgoing
from ratus.http2.stream import Stream

Request = TypeVar("Request")

CONNECTION_WINDOW: Final = 16 * 1024 * 1024  # bytes that a client may send on all streams; they are taken at once
TURN: Final = 64 * 1024  # bytes of small frames that are read before others have their turn
MAX_STREAMS: Final = 100_000  # of a connection at once
MAX_BLOCK: Final = 2 * MAX_LIST  # bytes of a header block, with nine for each of its frames
MOST_HELD: Final = 256 * 1024 * 1024  # bytes that all streams hold of what came in; more are given up
MAX_UNSENT: Final = 64 * 1024 * 1024  # bytes of answers that wait for a client to read; then it gets no new streams

_logger = logging.getLogger(__name__)


class Application(Protocol[Request]):
    """What makes streams of requests."""

    def read(self, headers: Headers) -> Request:
        """What a head asks for; kept while the same comes again. StreamFault if it is malformed."""
        ...

    def open(self, connection: Outgoing, number: int, request: Request) -> Stream:
        """The stream that serves it."""
        ...


class Incoming(Controlled, Generic[Request]):
    """The reading half of a connection."""

    def __init__(self, application: Application[Request]) -> None:
        super().__init__()
        self._application = application
        self._decoder = Decoder(application.read)
        self._unread = b""  # the beginning of a frame
        self._block: list[bytes] | None = None  # a header block that goes on
        self._block_size = 0
        self._block_stream = 0
        self._block_flags = 0
        self._owed = 0  # bytes that have come in since the client was last allowed more
        self.greeted = False  # the client speaks HTTP/2
        self._heard = monotonic()  # when something came in last
        self._pinged: float | None = None  # when it was asked whether it is there, since then

    def data_received(self, data: bytes) -> None:
        """Read the frames that are complete."""
        if self._closing:
            return
        self._heard, self._pinged = monotonic(), None
        if self._unread:
            data = self._unread + data
        try:
            self._unread = self._read(data)
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))
        except Exception:
            _logger.exception("a connection failed")
            self._fail(Code.INTERNAL_ERROR)

    def _read(self, data: bytes) -> bytes:
        """Read frames; what is left of the last, which has not come as a whole."""
        at, end = 0, len(data)
        if not self.greeted:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            if end < len(frames.PREFACE) + frames.HEAD_SIZE:
                return data
            at = len(frames.PREFACE)
            if data[at + 3] != frames.SETTINGS or data[at + 4] & frames.ACK:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.greeted = True
        unpack = frames.HEAD.unpack_from
        turn = min(at + TURN, end - frames.HEAD_SIZE)
        while at <= turn and not self._stopped:
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
        else:
            if end - at >= frames.HEAD_SIZE:
                self._fall_behind()
        return data[at:]

    def _fall_behind(self) -> None:
        """Let others have their turn, and read no more until then."""
        self._behind = True
        self._listen()
        if not self._stopped:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self._stopped:  # again
            self._behind = False
            self.data_received(b"")
            self._listen()

    def _fail(self, code: Code, why: str = "") -> None:
        self._unread = b""
        self._write(frames.goaway(min(self._last, self._refused_beyond), code, why))
        self._close()

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
            self._hold_less()
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
        elif size:  # which may be padding alone, and takes room in the window
            stream.received(payload)

    def _hold_less(self) -> None:
        """Give up the streams that hold most, where all of them hold too much."""
        held = sum(stream.held() for stream in self._streams.values())
        if held > MOST_HELD:
            for stream in sorted(self._streams.values(), key=lambda stream: stream.held(), reverse=True):
                if held <= MOST_HELD:
                    break
                held -= stream.held()
                self.reset(stream.number, Code.ENHANCE_YOUR_CALM)

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
        if number <= self._last:
            self._trailers(flags, number, block)
            return
        self._last = number
        request = self._decoder.decode(block)
        full = len(self._streams) >= MAX_STREAMS or self.unsent > MAX_UNSENT
        if number > self._refused_beyond or full:
            self._write(frames.rst_stream(number, Code.REFUSED_STREAM))
            return
        stream = self._streams[number] = self._application.open(self, number, request)
        if flags & frames.END_STREAM:
            stream.ended = True
            stream.received_all()

    def _trailers(self, flags: int, number: int, block: bytes) -> None:
        """They say nothing that anybody wants, but that the client has said all."""
        fields = self._decoder.fields(block)
        stream = self._streams.get(number)
        if stream is None:
            return  # we have ended it, which the client did not know yet
        if stream.ended:
            raise StreamFault(Code.STREAM_CLOSED, "a head behind the end of a stream")
        if not flags & frames.END_STREAM or any(name.startswith(b":") for name, _ in fields):
            raise StreamFault(Code.PROTOCOL_ERROR, "a second head")
        stream.ended = True
        stream.received_all()

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed RST_STREAM")
        if not number or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM of a stream that is not open")
        self._drop(number)


def _unpadded(payload: bytes) -> bytes:
    padding = payload[0] if payload else 0
    if padding >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - padding]


_OTHERS: Final[tuple[Any, ...]] = (
    Incoming._data,
    Incoming._headers,
    Incoming._priority,
    Incoming._rst_stream,
    Incoming._settings,
    Incoming._push_promise,
    Incoming._ping,
    Incoming._goaway,
    Incoming._window_update,
    Incoming._continuation,
)
