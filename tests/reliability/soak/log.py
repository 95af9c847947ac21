"""What the clients did, written down as it happens, and read again a window of tasks at a time.

A line is written when its call has ended, a delivery before anything is done with it, by one unbuffered write: of a
client that is killed only the calls under way are missing, and a window takes the same memory however long the run.
"""

import os
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.reliability.history import Claim, Commit, Delivery, History, Insert, Outcome, Span

WINDOW: Final = 50_000  # tasks
CLAIMS: Final = "claims"
_OPEN_FILES: Final = 8
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[Any]).decode


def task_id(number: int) -> str:
    return f"s{number}"


def window_of(id: str) -> str:
    return str(int(id[1:]) // WINDOW)


class Log:
    """The file of one client for every window, and one for its streams and the claims without an answer."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._files: dict[str, int] = {}

    def write(self, calls: Iterable[Insert | Delivery | Commit | Claim]) -> None:
        """Write down what ended just now, or a stream that begins."""
        lines: dict[str, bytearray] = {}
        for call in calls:
            window = CLAIMS if isinstance(call, Claim) else window_of(call.id)
            lines.setdefault(window, bytearray()).extend(_encode(_line(call)) + b"\n")
        for window, text in lines.items():
            os.write(self._file(window), text)

    def _file(self, window: str) -> int:
        if window not in self._files:
            if len(self._files) == _OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            path = self._directory / f"{window}.{self._name}"
            self._files[window] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return self._files[window]

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])


def _line(call: Insert | Delivery | Commit | Claim) -> list[Any]:
    match call:
        case Insert():
            return ["i", call.id, call.topic, call.payload, call.scheduled, *_span(call.span)]
        case Commit():
            return ["c", call.id, call.nonce, call.payload, *_span(call.span)]
        case Claim():
            return ["q", call.consumer, call.topics[0], call.releases, call.request, *_span(call.span)]
        case Delivery():
            times = (call.scheduled, call.consumed, call.deadline, call.received)
            claim = (call.claim.topics[0], call.claim.request, *_span(call.claim.span))
            return ["d", call.id, call.topic, call.nonce, call.consumer, *times, *claim]


def _span(span: Span) -> tuple[float, float | None, str, str]:
    return span.begin, None if span.end == inf else span.end, span.outcome.value, span.error


def _read_span(begin: float, end: float | None, outcome: str, error: str) -> Span:
    return Span(begin, inf if end is None else end, Outcome(outcome), error)


Claims = dict[tuple[str, float], Claim]


def windows(directory: Path) -> list[str]:
    """The windows that something was written of, in order."""
    names = {path.name.partition(".")[0] for path in directory.iterdir()} - {CLAIMS}
    return sorted(names, key=int)


def read_claims(directory: Path) -> Claims:
    """The streams, and the claims without an answer, by consumer and begin."""
    found: Claims = {}
    for _, consumer, topic, releases, request, *span in _lines(directory, CLAIMS):
        claim = Claim(consumer, (topic,), _read_span(*span), releases, request)
        found[consumer, claim.span.begin] = claim  # what is told at the end of a stream comes after its begin
    return found


def read(directory: Path, window: str, claims: Claims) -> History:
    """What was done with the tasks of a window."""
    history = History(claims=list(claims.values()))
    for kind, *line in _lines(directory, window):
        if kind == "i":
            id, topic, payload, scheduled, *span = line
            history.inserts.append(Insert(id, topic, payload, scheduled, _read_span(*span)))
        elif kind == "c":
            id, nonce, payload, *span = line
            history.commits.append(Commit(id, nonce, payload, _read_span(*span)))
        else:
            id, topic, nonce, consumer, scheduled, consumed, deadline, received, claimed, request, *span = line
            claim = claims.get((consumer, span[0])) or Claim(consumer, (claimed,), _read_span(*span), request=request)
            history.deliveries.append(
                Delivery(id, topic, nonce, consumer, scheduled, consumed, deadline, claim, received)
            )
    return history


def _lines(directory: Path, window: str) -> Iterator[list[Any]]:
    for path in directory.glob(f"{window}.*"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):  # else its client was killed while it wrote
                yield _decode(line)
