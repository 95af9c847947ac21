"""How a stream of tasks looks on the wire."""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.answers import Answer, encode
from ratus.model import Task

_ENDS_LINE: Final = re.compile(r"[\r\n]")


class Framing(Protocol):
    """Turns what is delivered into bytes."""

    @property
    def content_type(self) -> bytes:
        """What it is called."""

    @property
    def heartbeat(self) -> bytes:
        """A sign of life that means nothing else."""

    def task(self, task: Task) -> bytes:
        """A task."""

    def error(self, answer: Answer) -> bytes:
        """Why the stream ends: the answer that a call would have got."""


@dataclass(frozen=True, slots=True)
class ServerSentEvents:
    """An event `task` for each, whose ID is that of the task; comments as heartbeats; an event `error` at the end."""

    content_type: bytes = b"text/event-stream"
    heartbeat: bytes = b":\n\n"

    def task(self, task: Task) -> bytes:
        """A task; an ID that would end the line is in the data only."""
        id = b"" if _ENDS_LINE.search(task.id) else b"id: %s\n" % task.id.encode()
        return b"event: task\n%sdata: %s\n\n" % (id, encode(task))

    def error(self, answer: Answer) -> bytes:
        """Why the stream ends."""
        return b"event: error\ndata: %s\n\n" % answer.body


@dataclass(frozen=True, slots=True)
class JSONLines:
    """A task a line, empty lines as heartbeats; a line `{"error": …}` at the end."""

    content_type: bytes = b"application/x-ndjson"
    heartbeat: bytes = b"\n"

    def task(self, task: Task) -> bytes:
        """A task."""
        return b"%s\n" % encode(task)

    def error(self, answer: Answer) -> bytes:
        """Why the stream ends."""
        return b"%s\n" % answer.body


_FRAMINGS: Final[tuple[Framing, ...]] = (ServerSentEvents(), JSONLines())


def choose(accept: str) -> Framing:
    """The framing that an Accept header names first; server-sent events if it names none."""
    for wanted in accept.split(","):
        kind = wanted.partition(";")[0].strip().lower()
        for framing in _FRAMINGS:
            if kind == framing.content_type.decode():
                return framing
    return _FRAMINGS[0]
