"""Answers: a status and bytes, on their way to the client."""

from typing import Any, Final, NamedTuple

import msgspec

JSON: Final = b"application/json"
ALL_ORIGINS: Final = (b"access-control-allow-origin", b"*")

encode: Final = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """What is sent to the client; an empty body has no content type."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Written(NamedTuple):
    """An answer that the handler has written by itself, piece by piece."""

    status: int
    begun: float  # when it began to, on the clock of `time.perf_counter`


def ok(content: Any) -> Answer:
    """200 with the content as JSON."""
    return Answer(200, encode(content))


def updated(created: int, replaced: int) -> Answer:
    """What an insert or upsert has done: 201 if it created something, else 200."""
    return Answer(201 if created else 200, b'{"created":%d,"updated":%d}' % (created, replaced))


def deleted(count: int) -> Answer:
    """How much a deletion has deleted."""
    return Answer(200, b'{"deleted":%d}' % count)


def listed(items: list[Any]) -> Answer:
    """200 with a list."""
    return ok({"data": items})
