"""Query strings: pages and promises. An empty value counts as absent; of a repeated one the first counts."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from ratus.errors import BadRequest
from ratus.model import PageRequest

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,100}", re.ASCII)
_INT32, _INT64 = 2**31, 2**63
_CACHED_LENGTH: Final = 256  # bytes; consumers repeat a few short queries


def values(query: bytes) -> Mapping[str, str]:
    """The parameters that are not empty; BadRequest if they are not UTF-8."""
    if not query:
        return _NONE
    return _cached(query) if len(query) <= _CACHED_LENGTH else _parse(query)


def page(query: bytes) -> PageRequest:
    """The page that `limit` and `offset` ask for; BadRequest if they are no integers."""
    given = values(query)
    return PageRequest(limit=_integer(given.get("limit", "0")), offset=_integer(given.get("offset", "0")))


_NONE: Final[Mapping[str, str]] = {}


def _parse(query: bytes) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(query.decode(), errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("query is not UTF-8") from None
    return dict(reversed(pairs))


_cached = lru_cache(maxsize=1024)(_parse)


def _integer(text: str) -> int:
    number = int(text) if _INTEGER.fullmatch(text) else _INT64
    if not -_INT64 <= number < _INT64:
        raise BadRequest("invalid pagination parameters", bare=True)
    # Beyond 32 bits nothing is within the bounds; this much fits into a message, so that the bound can be named.
    return max(-_INT32, min(number, _INT32 - 1))
