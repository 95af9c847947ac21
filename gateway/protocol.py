"""The HTTP protocol of uvicorn, with a short way for answers that are whole.

An ASGI application sends head and body apart; uvicorn looks at every header and hands both to the system by themselves,
so that an answer is two packets, which wake the client twice. All of that costs more than what we do for a call.
"""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

WHOLE: Final = "ratus.whole"  # the key in a scope of the `write_whole` below

_CLOSE: Final = b"connection: close\r\n"


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which lets applications write whole answers."""

    _general: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        def write_whole(status: int, headers: bytes, body: bytes) -> bool:
            """Write an answer at once; False, with nothing written, where it has to go the usual way.

            `headers` are lines as they go over the wire; those that say how long the body is are left to us.
            """
            if cycle.disconnected or cycle.response_started or self.flow.write_paused or method == "HEAD":
                return False
            cycle.response_started = cycle.response_complete = True
            cycle.waiting_for_100_continue = False
            self.transport.write(
                b"%b%b%b%bcontent-length: %d\r\n\r\n%b"
                % (
                    STATUS_LINE[status],
                    self._general_headers(),
                    headers,
                    b"" if cycle.keep_alive else _CLOSE,
                    len(body),
                    body,
                )
            )
            cycle.message_event.set()
            if not cycle.keep_alive:
                self.transport.close()
            cycle.on_response()
            return True

        method = cycle.scope["method"]
        cycle.scope[WHOLE] = write_whole  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    def _general_headers(self) -> bytes:
        """The headers of all answers, such as the date, which uvicorn keeps in a list and makes anew every second."""
        headers, lines = self._general
        if headers is not self.server_state.default_headers:
            headers = self.server_state.default_headers
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            self._general = (headers, lines)
        return lines
