"""Query strings: pages, promises and streams. An empty value counts as absent; of a repeated one the first counts.

What cannot be parsed is a BadRequest that names the field. Integers beyond what a message can carry become the nearest
that it can: nothing out there is within the bounds, and those are checked, and named, behind the backend.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from ratus.errors import BadRequest
from ratus.model import PageRequest
from ratus.times import parse_duration

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,100}", re.ASCII)
_INT32, _INT64 = 2**31, 2**63
_CACHED_LENGTH: Final = 256  # bytes; consumers repeat a few short queries
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


def values(query: bytes) -> Mapping[str, str]:
    """The parameters that are not empty; BadRequest if they are not UTF-8."""
    if not query:
        return _NONE
    return _cached(query) if len(query) <= _CACHED_LENGTH else _parse(query)


def repeated(query: bytes, name: str) -> list[str]:
    """All values of a parameter that are not empty, in order; BadRequest if the query is not UTF-8."""
    return [value for key, value in _pairs(query) if key == name]


def page(query: bytes) -> PageRequest:
    """The page that `limit` and `offset` ask for; BadRequest if they are no integers."""
    given = values(query)
    return PageRequest(limit=_page_integer(given.get("limit", "0")), offset=_page_integer(given.get("offset", "0")))


def int32(given: Mapping[str, str], name: str) -> int:
    """An integer, 0 if absent."""
    return to_int32(_integer(given, name))


def int64(given: Mapping[str, str], name: str) -> int:
    """An integer, 0 if absent; BadRequest beyond 64 bits."""
    number = _integer(given, name)
    if not -_INT64 <= number < _INT64:
        raise BadRequest("is beyond 64 bits", field=name)
    return number


def to_int32(number: int) -> int:
    """The nearest integer of 32 bits."""
    return max(-_INT32, min(number, _INT32 - 1))


def flag(given: Mapping[str, str], name: str) -> bool:
    """A boolean, false if absent."""
    text = given.get(name, "false")
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise BadRequest(f"{text[:100]!r} is neither true nor false", field=name) from None


def duration(given: Mapping[str, str], name: str) -> timedelta | None:
    """A Go duration, None if absent."""
    text = given.get(name)
    return to_duration(text, name) if text else None


def to_duration(text: str, name: str) -> timedelta:
    """A Go duration; the BadRequest says which field it was, which clients of the original are not used to."""
    try:
        return parse_duration(text)
    except BadRequest as error:
        raise BadRequest(error.description, field=name) from None


_NONE: Final[Mapping[str, str]] = {}


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode(), errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("query is not UTF-8") from None


def _parse(query: bytes) -> Mapping[str, str]:
    return dict(reversed(_pairs(query)))


_cached = lru_cache(maxsize=1024)(_parse)


def _integer(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "0")
    if not _INTEGER.fullmatch(text):
        raise BadRequest(f"{text[:100]!r} is not an integer", field=name)
    return int(text)


def _page_integer(text: str) -> int:
    number = int(text) if _INTEGER.fullmatch(text) else _INT64
    if not -_INT64 <= number < _INT64:
        raise BadRequest("invalid pagination parameters", bare=True)
    return to_int32(number)
