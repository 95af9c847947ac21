"""Calls: what a handler is given of a request."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from gateway.answers import Answer, Written
from gateway.client import Client


@dataclass(slots=True)
class Call:
    """A request on a route: the names from its path, and the rest as bytes."""

    topic: str
    id: str
    query: bytes
    headers: Iterable[tuple[bytes, bytes]]
    body: bytes
    client: Client

    def header(self, name: bytes) -> str:
        """The value of a header (name in lower case), empty if there is none."""
        return header(self.headers, name).decode("latin-1")


Handler = Callable[[Call], Awaitable[Answer | Written]]


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The value of the first header of this name (in lower case), empty if there is none."""
    for key, value in headers:
        if key == name:
            return value
    return b""
