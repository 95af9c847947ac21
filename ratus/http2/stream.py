"""One stream: what comes in goes to those who inherit, what goes out waits for room."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from ratus.http2.errors import StreamClosed
from ratus.http2.frames import END_STREAM, Code, header_frames

if TYPE_CHECKING:
    from ratus.http2.outgoing import Outgoing

MOST_UNSENT: Final = 256 * 1024 * 1024  # bytes of answers that wait for a client to open windows; more are given up


class Stream:
    """A request and its answer. The connection calls `received`, `received_all` and `gone`."""

    __slots__ = (
        "_waiting",
        "begun",
        "closed",
        "connection",
        "ended",
        "number",
        "out",
        "owed",
        "trailers",
        "window",
    )

    def __init__(self, connection: "Outgoing", number: int) -> None:
        self.connection = connection
        self.number = number
        self.window = 0  # bytes that the client still takes, beyond the initial window
        self.owed = 0  # bytes that have come in since the client was last allowed more
        self.begun = False  # the head of the answer has been sent
        self.ended = False  # the client has said all
        self.closed = False  # nothing goes out any more
        self.out: deque[bytes | memoryview] = deque()  # data that waits for room
        self.trailers: bytes | None = None  # a block that ends the answer, and waits for the data before it
        self._waiting: list[asyncio.Future[None]] = []  # for `out` to be empty

    def received(self, data: bytes) -> None:
        """Data has come in, or padding alone, which leaves none."""
        raise NotImplementedError

    def received_all(self) -> None:
        """The client has said all; `ended` is set."""
        raise NotImplementedError

    def gone(self) -> None:
        """The client does not want it any more, or is lost; `closed` is set, and those who write know."""
        raise NotImplementedError

    def held(self) -> int:
        """The bytes that it keeps of what has come in, until more comes or somebody takes them."""
        return 0

    def drain(self) -> None:
        """The server drains; the stream may go on."""

    def allow(self) -> None:
        """Let the client send as much again as it has sent."""
        if not self.ended and not self.closed:
            self.connection.allow(self)

    def begin(self, block: bytes) -> None:
        """Send the head of the answer."""
        self.begun = True
        self.connection.write(header_frames(self.number, block))

    def send(self, data: bytes) -> None:
        """Send data, or keep it until there is room. StreamClosed if the client has gone, or lets too much wait."""
        if self.closed:
            raise StreamClosed
        if self.connection.unsent > MOST_UNSENT:
            self.connection.reset(self.number, Code.ENHANCE_YOUR_CALM)
            raise StreamClosed
        self.out.append(data)
        self.connection.unsent += len(data)
        if len(self.out) == 1:
            self.connection.send(self)

    async def sent(self) -> None:
        """Wait until all data has been handed to the system; StreamClosed if it never will be."""
        if self.out:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def finish(self, block: bytes) -> None:
        """End the answer with trailers (or, if nothing has been sent, with this head) once the data has gone."""
        if self.closed:
            return
        self.trailers = block
        if not self.out:
            self.all_out()

    def all_out(self) -> None:
        """There is no more data that waits."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
        if self.trailers is not None:
            self.closed = True
            self.connection.close_stream(self, header_frames(self.number, self.trailers, END_STREAM))

    def lose(self) -> None:
        """Nobody wants it any more; who waits to write is told."""
        self.closed = True
        self.connection.unsent -= sum(map(len, self.out))
        self.out.clear()
        for future in self._waiting:
            if not future.done():
                future.set_exception(StreamClosed())
        self._waiting.clear()
        self.gone()
