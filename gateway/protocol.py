"""The HTTP protocol of uvicorn, with bounds on what comes in and a short way for answers that are whole.

An ASGI application sends head and body apart; uvicorn looks at every header and hands both to the system by themselves,
so that an answer is two packets, which wake the client twice. All of that costs more than what we do for a call. And
each packet for a client on the same machine may put the client in our place on the processor at once, so that answers
that are ready in the same turn of the event loop are written one right after the other.

uvicorn itself takes heads without end, waits for the rest of a request without end, and answers garbage at once, in
the place of the answer to a request before it that is still being served. It ends connections that are not used for
five seconds, sometimes just when their client sends the next request, whose fate is then unknown to it.
"""

import asyncio
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway import errors
from gateway.answers import ALL_ORIGINS, JSON
from ratus.errors import BadRequest, RatusError, TooLarge

WHOLE: Final = "ratus.whole"  # the key in a scope of the `write_whole` below
MAX_HEAD_BYTES: Final = 64 * 1024  # of a head, or of what else stands between the pieces of bodies

_CLOSE: Final = b"connection: close\r\n"

# The connections of each event loop with an answer that is written at the end of this turn.
_holding_on: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, list["Protocol"]]] = WeakKeyDictionary()


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which lets applications write whole answers."""

    # Seconds between two requests, which is longer than most clients keep what they do not use. It stands here, not in
    # the settings of uvicorn, so that every server with this protocol has all of its bounds.
    idle: ClassVar[int] = 120
    patience: ClassVar[float] = 15.0  # seconds between two looks at a request that is not here yet
    pace: ClassVar[int] = 3600  # bytes that must have come between two looks

    _general: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")
    _running: RequestResponseCycle | None = None  # the last that was begun; those behind it are in the pipeline
    _unread = 0  # bytes since something was complete: a head, a piece of a body, a message
    _arrived = 0  # bytes since the last look
    _receiving = True  # a request is on its way, or the first has not begun
    _looked = False  # at this request, at least once
    _deaf = False  # nothing more is read
    _look: asyncio.TimerHandle | None = None
    _holding: list["Protocol"]
    _held = b""  # an answer that is written at the end of this turn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin, and look at the pace from time to time."""
        super().connection_made(transport)
        self.timeout_keep_alive = self.idle
        self._holding = _holding_on.setdefault(self.loop, [])
        self._look = self.loop.call_later(self.patience, self._check_pace)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._look is not None:
            self._look.cancel()
        self._disconnect()
        super().connection_lost(exc)

    def _disconnect(self) -> None:
        """Tell the request that is served; uvicorn would only tell the last that came, which may be behind it."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._arrived += len(data)
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # the request is served as it is; what follows would be something else
            self._deaf = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(BadRequest("malformed HTTP request"))
        else:
            if self._unread > MAX_HEAD_BYTES:
                self._refuse(TooLarge(f"the head of a request exceeds the maximum of {MAX_HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._receiving = True

    def on_headers_complete(self) -> None:
        """The head of a request is here."""
        super().on_headers_complete()
        self._unread = 0

    def on_body(self, body: bytes) -> None:
        """A piece of a body is here."""
        super().on_body(body)
        self._unread = 0

    def on_message_complete(self) -> None:
        """A request is here."""
        super().on_message_complete()
        self._unread = 0
        self._receiving = self._looked = False

    def _check_pace(self) -> None:
        """Close the connection if a request has hardly got on since the last look, and not for our sake."""
        owed = self._running is not None and not self._running.response_complete and not self._running.more_body
        waits_for_us = owed or self._deaf or self.flow.read_paused
        if self._receiving and self._looked and self._arrived < self.pace and not waits_for_us:
            self._disconnect()
            self._close()
            return
        self._looked, self._arrived = self._receiving, 0
        self._look = self.loop.call_later(self.patience, self._check_pace)

    def _refuse(self, error: RatusError) -> None:
        """Read no more; answer so, unless requests before are to be answered first, with which the connection ends."""
        self._deaf = True
        last: RequestResponseCycle | None = self.cycle
        if last is not None and last.more_body and self.pipeline:  # it is not here as a whole, and never will be
            self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None and not last.response_complete and not last.more_body:
            last.keep_alive = False
            return
        if last is None or last.response_complete or not last.response_started:
            status, body, _, _ = errors.answer(error)
            headers = b"%b: %b\r\ncontent-type: %b\r\n" % (*ALL_ORIGINS, JSON)
            self._hold(self._whole(status, headers, body, keep_alive=False))
        self._disconnect()
        self._close()

    def _hang_up(self) -> None:
        """End the connection once the client could read the answer, which would be lost if it still sent to nobody."""
        self._release()
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._deaf = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(self.patience, self.transport.close)

    def shutdown(self) -> None:
        """End the connection once the request that is served has its answer."""
        self._release()
        super().shutdown()

    def _hold(self, answer: bytes) -> None:
        """Write an answer at the end of this turn, which is before a request behind it can have one."""
        if not self._holding:
            self.loop.call_soon(_release_all, self._holding)
        self._holding.append(self)
        self._held += answer

    def _release(self) -> None:
        """Write what is held, if it was not written."""
        held, self._held = self._held, b""
        if held and not self.transport.is_closing():
            self.transport.write(held)

    def _close(self) -> None:
        self._release()
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        def write_whole(status: int, headers: bytes, body: bytes) -> bool:
            """Write an answer at once; False, with nothing written, where it has to go the usual way.

            `headers` are lines as they go over the wire; those that say how long the body is are left to us.
            """
            if cycle.disconnected or cycle.response_started or self.flow.write_paused or method == "HEAD":
                return False
            cycle.response_started = cycle.response_complete = True
            cycle.waiting_for_100_continue = False
            self._hold(self._whole(status, headers, body, keep_alive=cycle.keep_alive))
            cycle.message_event.set()
            if not cycle.keep_alive and cycle.more_body:
                self._hang_up()
            elif not cycle.keep_alive:
                self._close()
            cycle.on_response()
            return True

        self._running = cycle
        method = cycle.scope["method"]
        cycle.scope[WHOLE] = write_whole  # type: ignore[typeddict-unknown-key]  # a key of our own
        super()._start_asgi_task(cycle, app)

    def _whole(self, status: int, headers: bytes, body: bytes, *, keep_alive: bool) -> bytes:
        return b"%b%b%b%bcontent-length: %d\r\n\r\n%b" % (
            STATUS_LINE[status],
            self._general_headers(),
            headers,
            b"" if keep_alive else _CLOSE,
            len(body),
            body,
        )

    def _general_headers(self) -> bytes:
        """The headers of all answers, such as the date, which uvicorn keeps in a list and makes anew every second."""
        headers, lines = self._general
        if headers is not self.server_state.default_headers:
            headers = self.server_state.default_headers
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            self._general = (headers, lines)
        return lines


def _release_all(holding: list[Protocol]) -> None:
    for connection in holding:
        connection._release()
    holding.clear()
