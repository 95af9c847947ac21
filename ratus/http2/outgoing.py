"""What goes out on a connection: in the windows that the client opens, and no faster than it reads."""

import asyncio
from typing import Final

from ratus.http2 import frames
from ratus.http2.errors import StreamClosed
from ratus.http2.frames import Code
from ratus.http2.stream import Stream

FRAME: Final = 64 * 1024  # bytes of a payload, either way
STREAM_WINDOW: Final = 1024 * 1024  # bytes that a client may send on a stream before they are taken
MAX_LINGERING: Final = 1_000  # calls at work whose clients have gone; then nothing more is read until some have ended
MAX_UNREAD: Final = 1024 * 1024  # bytes that wait for a client which does not read; then nothing more is read from it


class Outgoing:
    """The writing half of a connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, Stream] = {}
        self._waiting: dict[int, Stream] = {}  # those with data that waits, but not for their own windows
        self._last = 0  # the highest stream that a client has opened
        self._refused_beyond = frames.LAST_STREAM
        self._window = frames.DEFAULT_WINDOW  # bytes that the client still takes
        self._frame = frames.DEFAULT_FRAME  # bytes of a payload that the client takes
        self._table_reset = b""
        self._held: list[bytes] = []  # what is written at the end of this turn
        self._held_size = 0
        self._full = False  # the system takes no more
        self._choked = False  # nor does the client
        self._stopped = False  # nothing is done for the client for now
        self._behind = False  # more has come in than one turn allows
        self._deaf = False  # nothing is read for now
        self._lingering = 0
        self._closing = False
        self.initial_window = frames.DEFAULT_WINDOW  # bytes that the client takes on each stream at first
        self.unsent = 0  # bytes of all streams that wait for room

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._full = self._choked = False
        self._listen()
        self._send_waiting()

    def write(self, data: bytes) -> None:
        """Hand frames to the system that take no room in windows."""
        if self._table_reset and data[3] == frames.HEADERS:
            data = self._with_table_reset(data)
        self._write(data)

    def answer(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> None:
        """Send a whole answer, and close the stream."""
        size = len(data)
        room = (
            size <= self._window
            and size <= self.initial_window + stream.window
            and size <= self._frame
            and not self._full
        )
        if not room or self._table_reset:
            self._answer_in_parts(stream, head, data, trailers)
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
        self._waiting.pop(stream.number, None)
        out = stream.out
        while out:
            own = self.initial_window + stream.window
            if own <= 0:
                return  # until the client opens it
            room = min(self._window, own, self._frame)
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
        stream.all_out()

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
        self._drop(number)

    def lingers(self, number: int) -> None:
        """So many calls more, or fewer, are at work for nobody."""
        self._lingering += number
        self._listen()

    def _answer_in_parts(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> None:
        stream.begin(head)
        try:
            stream.send(data)
        except StreamClosed:
            return  # the client, which reads nothing, does not get it
        stream.finish(trailers)

    def _send_waiting(self) -> None:
        """Send what waits, in turn, as far as there is room."""
        if self._full or self._window <= 0:
            return
        for number, stream in list(self._waiting.items()):
            if number in self._waiting:
                self.send(stream)  # which puts it behind the others if something is left
            if self._full or self._window <= 0:
                return

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
            if self._full and self._transport.get_write_buffer_size() > MAX_UNREAD:
                self._choked = True
                self._listen()
        self._held.clear()
        self._held_size = 0

    def _with_table_reset(self, data: bytes) -> bytes:
        """The first header block begins with a change of the table that the client has asked for."""
        high, low, kind, flags, number = frames.HEAD.unpack_from(data)
        size = (high << 8 | low) + len(self._table_reset)
        head = frames.HEAD.pack(size >> 8, size & 0xFF, kind, flags, number)
        data = head + self._table_reset + data[frames.HEAD_SIZE :]
        self._table_reset = b""
        return data

    def _listen(self) -> None:
        """Read from the client, or do not while it has us do more than it takes, or than is its turn."""
        if self._closing:
            return
        was, self._stopped = self._stopped, self._choked or self._lingering >= MAX_LINGERING
        if was and not self._stopped:
            self._loop.call_soon(self._go_on)
        deaf = self._stopped or self._behind
        if deaf != self._deaf:
            self._deaf = deaf
            if deaf:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _go_on(self) -> None:
        """Read what had come in before."""
        raise NotImplementedError

    def _drop(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._waiting.pop(number, None)
            stream.lose()
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._refused_beyond != frames.LAST_STREAM and not self._streams and not self._closing:
            self._close()

    def _close(self) -> None:
        """End the connection once what has been written is read, and all streams at once."""
        self._flush()
        self._closing = True
        self._transport.close()
        self._lose_streams()

    def _lose_streams(self) -> None:
        streams, self._streams = self._streams, {}
        self._waiting.clear()
        for stream in streams.values():
            stream.lose()
