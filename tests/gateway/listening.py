"""A client of a stream, which reads no more than it is asked to."""

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, Self

from tests.gateway.serving import Rest
from tests.server import Server

SSE, NDJSON = "text/event-stream", "application/x-ndjson"


class Listener:
    """A request whose answer is read line by line. With `buffer`, the kernel keeps about so many bytes for it."""

    def __init__(
        self,
        rest: Rest | Server,
        path: str,
        accept: str = NDJSON,
        *,
        method: str = "GET",
        buffer: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(20)
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.connect(("127.0.0.1", rest.port))
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Accept: {accept}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._answer: http.client.HTTPResponse | None = None

    @property
    def answer(self) -> http.client.HTTPResponse:
        if self._answer is None:
            self._answer = http.client.HTTPResponse(self._socket)
            self._answer.begin()
        return self._answer

    def line(self) -> bytes:
        """The next line; empty at the end."""
        return self.answer.readline()

    def task(self) -> Any:
        """The next line of JSON that is no heartbeat."""
        while (line := self.line()) == b"\n":
            pass
        return json.loads(line)

    def tasks(self, number: int) -> list[Any]:
        return [self.task() for _ in range(number)]

    def rest(self) -> int:
        """The number of tasks that are still to come until the connection ends, in whatever way."""
        count = 0
        try:
            while line := self.line():
                count += line.endswith(b"\n") and b'"_id"' in line
        except (http.client.IncompleteRead, ConnectionError):
            pass
        return count

    def event(self) -> dict[str, str]:
        """The fields of the next event that is no comment, as a browser sees it."""
        event: dict[str, str] = {}
        while True:
            line = self.line().decode()
            assert line.endswith("\n"), "the stream has ended"
            name, _, value = line[:-1].partition(":")
            if name:
                assert name not in event
                event[name] = value.removeprefix(" ")
            elif line == "\n" and event:
                return event

    def eof(self) -> bool:
        """Whether the server closes the connection."""
        return self._socket.recv(1) == b""

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
