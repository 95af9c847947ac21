"""What a client says about the connection rather than on it: settings, windows, pings, and what is ignored."""

from typing import Final

from ratus.http2 import frames
from ratus.http2.errors import ConnectionFault, StreamFault
from ratus.http2.frames import Code
from ratus.http2.headers import RESET_TABLE
from ratus.http2.outgoing import FRAME, Outgoing

_SETTINGS_ACK: Final = frames.frame(frames.SETTINGS, frames.ACK, 0)


class Controlled(Outgoing):
    """The writing half of a connection, as the client steers it."""

    def __init__(self) -> None:
        super().__init__()
        self._most_window = 0  # no stream has been allowed more beyond the initial window
        self._opened = False  # the initial window has grown, which those that wait do not know yet
        self._draining = False

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed SETTINGS")
        if flags & frames.ACK:
            return
        for key, value in frames.read_settings(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                self._set_initial_window(value)
            elif key == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME <= value <= frames.MAX_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame size out of range")
                self._frame = min(value, FRAME)
            elif key == frames.HEADER_TABLE_SIZE and value < frames.DEFAULT_TABLE:
                self._table_reset = RESET_TABLE
            elif key == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        self._write(_SETTINGS_ACK)

    def _set_initial_window(self, size: int) -> None:
        """Change the windows of all streams, without a look at each: there may be many streams and many changes."""
        if size > self.initial_window and not self._opened:
            self._opened = True
            self._loop.call_soon(self._send_opened)
        self.initial_window = size
        if size + self._most_window > frames.MAX_WINDOW:
            self._most_window = max((0, *(stream.window for stream in self._streams.values())))
            if size + self._most_window > frames.MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")

    def _send_opened(self) -> None:
        self._opened = False
        for stream in list(self._streams.values()):
            if stream.out:
                self.send(stream)

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed PING")
        if not flags & frames.ACK:
            self._write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == frames.GOODBYE and self._draining:
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
            if number > self._last or not number % 2:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window of a stream that is not open")
            return
        if not more:
            raise StreamFault(Code.PROTOCOL_ERROR, "a window that does not grow")
        stream.window += more
        if self.initial_window + stream.window > frames.MAX_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
        self._most_window = max(self._most_window, stream.window)
        if stream.out:
            self.send(stream)

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        """The client opens no more streams; it ends the connection when it has what it waits for."""
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed GOAWAY")

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        """All streams are alike."""
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed PRIORITY")

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def refuse_more(self) -> None:
        """Serve no streams but those that are open, and say so."""
        if self._refused_beyond == frames.LAST_STREAM and not self._closing:
            self._refused_beyond = self._last
            self._write(frames.goaway(self._last, Code.NO_ERROR))
            self._close_if_done()
