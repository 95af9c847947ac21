"""One call: a stream of HTTP/2 whose data are messages, and whose trailers are a status.

The format is that of https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import asyncio
import base64
import urllib.parse
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Self

import grpc

from ratus.config import MAX_REQUEST_BYTES
from ratus.errors import Draining, RatusError
from ratus.http2.errors import StreamClosed
from ratus.http2.frames import Code
from ratus.http2.headers import encode
from ratus.http2.outgoing import Outgoing
from ratus.http2.stream import Stream
from ratus.rpc.errors import DETAILS_KEY, code_of, to_status
from ratus.rpc.messages import ENCODINGS, PREFIX_SIZE, Message, Packed, framed, held_size, too_large, unpacked

MAX_HELD: Final = 256 * 1024  # bytes of messages that a handler has not taken; then the client may send no more

_HEAD: Final = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OPEN: Final = encode(_HEAD)
_OK: Final = encode([(b"grpc-status", b"0")])


class Aborted(Exception):
    """What `Call.abort` ends a handler with."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code


class Method(NamedTuple):
    """What serves the calls of a method.

    `serve` gets the call and its message; None where requests are streamed. A method that is `finished` goes on when
    its client has gone.
    """

    serve: Callable[["Call", "Message | None"], Coroutine[Any, Any, None]]
    serialize: Callable[[Any], bytes]
    streamed: bool
    finished: bool


class Request(NamedTuple):
    """What the head of a call asks for: a method, or (a block) the head that it is refused with."""

    method: Method | None
    refusal: bytes = b""
    timeout: float | None = None  # seconds
    encoding: bytes = b"identity"


def status_block(code: grpc.StatusCode, message: str = "", details: bytes = b"", *, alone: bool = False) -> bytes:
    """Trailers that say how a call ended, or `alone` the head that is the whole answer."""
    fields = [(b"grpc-status", b"%d" % code.value[0])]
    if message:
        # Everything but printable ASCII is escaped, and the sign of escapes.
        fields.append((b"grpc-message", urllib.parse.quote(message, safe=_PLAIN).encode()))
    if details:
        fields.append((DETAILS_KEY.encode(), base64.b64encode(details).rstrip(b"=")))
    return encode([*(_HEAD if alone else ()), *fields])


_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))


class Call(Stream):
    """Reads messages, hands them to the method, and writes what it answers.

    Handlers know it as their context: they may `write` and `abort`, and no more. It is the iterator of its messages.
    """

    __slots__ = (
        "_deaf",
        "_encoding",
        "_held",
        "_inbox",
        "_method",
        "_partial",
        "_reader",
        "_taken",
        "_timer",
        "expired",
        "task",
    )

    def __init__(self, connection: Outgoing, number: int, method: Method, request: Request) -> None:
        super().__init__(connection, number)
        self._method = method
        self._encoding = request.encoding
        self._partial: bytearray | None = None  # the beginning of a message
        self._inbox: deque[Message] | tuple[()] = deque() if method.streamed else ()
        self._held = 0  # bytes in there
        self._taken = 0  # messages that have come out of there
        self._deaf = False  # what comes in is no longer read
        self._reader: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.expired = False  # the time that the client has set is over
        self._timer: asyncio.TimerHandle | None = None
        if request.timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(request.timeout, self._expire)
        if method.streamed:
            self._start(None)

    # What comes in

    def received(self, data: bytes) -> None:
        """Take the messages that are complete."""
        if self._deaf:
            return
        if self._partial is None and len(data) - PREFIX_SIZE == int.from_bytes(data[1:PREFIX_SIZE], "big"):
            self._take(data[0], data[PREFIX_SIZE:])
        else:
            self._gather(data)
        if self._held < MAX_HELD:
            self.allow()

    def received_all(self) -> None:
        """Tell who reads."""
        if self._deaf:
            return
        if self._partial:
            self._refuse(grpc.StatusCode.INTERNAL, "the last message is incomplete")
        elif self._method.streamed:
            self._wake()
        elif self.task is None:
            self._refuse(grpc.StatusCode.UNIMPLEMENTED, "a message is missing")

    def gone(self) -> None:
        """Stop the handler, unless it is to be finished."""
        self._stop_timer()
        self._wake()
        task = self.task
        if task is None or task.done():
            return
        self.connection.lingers(1)
        task.add_done_callback(self._no_longer_lingers)
        if not self._method.finished:
            # Whoever waits to write or to read learns of it first, and what could not be sent from the error.
            asyncio.get_running_loop().call_soon(task.cancel)

    def held(self) -> int:
        """The bytes of messages that wait, or are not whole."""
        return self._held + len(self._partial or b"")

    def drain(self) -> None:
        """End a stream of which nothing has come yet; all others know by themselves when to end."""
        if self._method.streamed and not self._taken and not self._inbox:
            self._accept(Draining())

    def _no_longer_lingers(self, _: object) -> None:
        self.task = self._reader = None  # whose errors know this call, which would wait for the garbage collector
        self.connection.lingers(-1)

    def _gather(self, data: bytes) -> None:
        if self._partial is None:
            self._partial = bytearray()
        partial = self._partial
        partial += data
        while len(partial) >= PREFIX_SIZE and not self._deaf:
            end = PREFIX_SIZE + int.from_bytes(partial[1:PREFIX_SIZE], "big")
            if end - PREFIX_SIZE > MAX_REQUEST_BYTES:
                self._accept(too_large(end - PREFIX_SIZE))
                self._partial, self._deaf = None, True
                return
            if len(partial) < end:
                return
            with memoryview(partial) as view:
                message = bytes(view[PREFIX_SIZE:end])
            compressed = partial[0]
            del partial[:end]
            self._take(compressed, message)
        if not partial:
            self._partial = None

    def _take(self, compressed: int, message: bytes) -> None:
        if not compressed:
            self._accept(message)
            return
        window = ENCODINGS[self._encoding]
        if compressed != 1 or window is None:
            self._refuse(grpc.StatusCode.INTERNAL, "a message is compressed in no way that was told")
        else:
            self._accept(Packed(message, window))

    def _accept(self, message: Message) -> None:
        if isinstance(self._inbox, deque):
            self._inbox.append(message)
            self._held += held_size(message)
            self._wake()
        elif self.task is None:
            self._start(message)
        else:
            self._refuse(grpc.StatusCode.UNIMPLEMENTED, "more than one message")

    def _start(self, message: Message | None) -> None:
        self.task = asyncio.get_running_loop().create_task(self._method.serve(self, message))

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next message. RatusError if it is not one, StreamClosed if the client has gone before it has said all."""
        while not self._inbox:
            if self.ended:
                raise StopAsyncIteration
            if self.closed:
                raise StreamClosed
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        message: Message = self._inbox.popleft()
        self._taken += 1
        self._held -= held_size(message)
        if self._held < MAX_HELD:
            self.allow()
        return message if isinstance(message, bytes) else self.opened(message)

    def opened(self, message: Packed | RatusError) -> bytes:
        """What is packed in a message; RatusError if it cannot be read. Aborted if it is packed in another way."""
        if isinstance(message, RatusError):
            raise message
        data = unpacked(message)
        if data is None:
            self._deaf = True
            self._end(grpc.StatusCode.INTERNAL, "a message cannot be decompressed")
            raise Aborted(grpc.StatusCode.INTERNAL)
        return data

    # What goes out

    async def write(self, message: Any) -> None:
        """Send a message, and wait until it was handed to the system; StreamClosed if it was not, or not whole."""
        if self.closed:
            raise StreamClosed
        if not self.begun:
            self.begin(_OPEN)
        self.send(framed(self._method.serialize(message)))
        await self.sent()

    async def abort(self, code: grpc.StatusCode, message: str) -> None:
        """End the call with this status; Aborted."""
        self._end(code, message)
        raise Aborted(code)

    def succeed(self, message: bytes | None = None) -> None:
        """End the call with OK, after this message if there is one."""
        self._stop_timer()
        if self.closed:
            return
        if message is not None and not self.begun:
            self.connection.answer(self, _OPEN, framed(message), _OK)
        else:
            if not self.begun:
                self.begin(_OPEN)
            self.finish(_OK)

    def fail(self, error: RatusError) -> None:
        """End the call with an error."""
        status = to_status(error)
        self._end(code_of(error), status.message, status.SerializeToString())

    def _end(self, code: grpc.StatusCode, message: str, details: bytes = b"") -> None:
        self._stop_timer()
        self.finish(status_block(code, message, details, alone=not self.begun))

    def _refuse(self, code: grpc.StatusCode, message: str) -> None:
        """End a call whose client does what it must not."""
        self._deaf = True
        self._end(code, message)
        self.gone()

    def _expire(self) -> None:
        self.expired = True
        if self.out:  # a client that does not read is not told either, and nothing is kept for it
            self.connection.reset(self.number, Code.CANCEL)
            return
        self._end(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        self.gone()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Refused(Stream):
    """A call that cannot be served; what the client says is not read."""

    __slots__ = ()

    def __init__(self, connection: Outgoing, number: int, refusal: bytes) -> None:
        super().__init__(connection, number)
        asyncio.get_running_loop().call_soon(self.finish, refusal)

    def received(self, data: bytes) -> None:
        """Not wanted."""

    def received_all(self) -> None:
        """Not waited for."""

    def gone(self) -> None:
        """Nothing is under way."""
