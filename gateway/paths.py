"""Routing on raw paths: split at the slashes first, percent-decode each segment once after.

So `a%2Fb` is one name, empty topics are names too, and what is not UTF-8 is refused rather than changed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.calls import Handler
from ratus.errors import BadRequest

VERSION: Final = "v1"

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Route:
    """A method on a path, which is in the form of the original: `/topics/:topic/tasks/:id`."""

    method: str
    path: str
    handler: Handler
    reads_body: bool = False
    head: Handler | None = None  # of HEAD, where that of GET would not do


class Resource(NamedTuple):
    """A path that is served: how metrics call it, and its routes by method."""

    endpoint: str
    routes: Mapping[str, Route]


class Match(NamedTuple):
    """A resource, and the names in the path that led to it."""

    resource: Resource
    topic: str
    id: str


# What tells paths apart: whether they are versioned, the number of segments, and the literal ones among them.
_Shape = tuple[bool, int, str, str, str]


class Router:
    """Finds the resource of a path, under `/v1` and under `/`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        methods: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods.setdefault(route.path, {})[route.method] = route
            if route.method == "GET":
                methods[route.path]["HEAD"] = route if route.head is None else replace(route, handler=route.head)
        self._resources: dict[_Shape, Resource] = {}
        for path, by_method in methods.items():
            for endpoint in (path, f"/{VERSION}{path}"):
                shape, _, _ = _shape(endpoint.split("/"))
                self._resources[shape] = Resource(endpoint, by_method)

    def match(self, raw_path: bytes) -> Match | None:
        """The resource of a path as it came over the wire, or None; BadRequest if it is not UTF-8."""
        segments = split(raw_path)
        if len(segments) < 2:
            return None
        shape, topic, id = _shape(segments)
        resource = self._resources.get(shape)
        return None if resource is None else Match(resource, topic, id)


def split(raw_path: bytes) -> list[str]:
    """The segments of a path, decoded; the first one is what stands before the first slash."""
    try:
        if b"%" not in raw_path:
            return raw_path.decode().split("/")
        if _BAD_ESCAPE.search(raw_path):
            raise BadRequest("malformed percent-encoding in the path")
        return [unquote_to_bytes(segment).decode() for segment in raw_path.split(b"/")]
    except UnicodeDecodeError:
        raise BadRequest("path is not UTF-8") from None


def _shape(segments: list[str]) -> tuple[_Shape, str, str]:
    versioned = segments[1] == VERSION and len(segments) > 2
    first = 2 if versioned else 1
    count = len(segments) - first
    return (
        (
            versioned,
            count,
            segments[first],
            segments[first + 2] if count > 2 else "",
            segments[first + 4] if count > 4 else "",
        ),
        segments[first + 1] if count > 1 else "",
        segments[first + 3] if count > 3 else "",
    )
