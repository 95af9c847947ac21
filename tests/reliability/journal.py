"""A history that is written down call by call, so that it outlives the process that makes it."""

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, SupportsIndex

from tests.reliability.history import Claim, Commit, Delivery, Extension, History, Insert, Outcome, Release, Span

_KINDS: Final = {
    "inserts": Insert,
    "claims": Claim,
    "deliveries": Delivery,
    "commits": Commit,
    "extensions": Extension,
    "releases": Release,
}


class Journal(History):
    """A history in a file: each call is there before it is sent, and its end as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)  # what a write has returned from, no kill takes back
        super().__init__(**{name: _Written(name, self._file) for name in _KINDS})

    def close(self) -> None:
        self._file.close()


class _Written(list[Any]):
    """A list whose elements are written down, and their ends."""

    def __init__(self, kind: str, file: BinaryIO) -> None:
        super().__init__()
        self._kind = kind
        self._file = file

    def append(self, call: Any) -> None:
        entry: dict[str, Any] = {"kind": self._kind}
        for field in fields(call):
            value = getattr(call, field.name)
            if isinstance(value, Span):
                entry |= {"call": id(value), "begin": value.begin}
                value.on_end = self._end  # nothing has ended that is only just written down
            elif isinstance(value, Claim):
                entry["claim"] = id(value.span)
            else:
                entry[field.name] = value
        self._write(entry)
        super().append(call)

    def extend(self, calls: Iterable[Any]) -> None:
        for call in calls:
            self.append(call)

    def __iadd__(self, calls: Iterable[Any]) -> Self:  # type: ignore[misc]  # of a list it would take less
        self.extend(calls)
        return self

    def insert(self, index: SupportsIndex, call: Any) -> None:
        raise NotImplementedError("a journal is only added to")

    def _end(self, span: Span) -> None:
        self._write({"ended": id(span), "end": span.end, "outcome": span.outcome.value, "error": span.error})

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")


def read_journal(path: Path, died: float | None) -> History:
    """What a process has written; streams that give back what they hold have ended by when it `died`, if it has."""
    history = History()
    spans: dict[int, Span] = {}
    claims: dict[int, Claim] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:  # the last line may be torn
        entry = json.loads(line)
        if "ended" in entry:
            span = spans[entry["ended"]]
            span.end, span.outcome, span.error = entry["end"], Outcome(entry["outcome"]), entry["error"]
            continue
        kind = entry.pop("kind")
        if kind == "deliveries":
            entry["claim"] = claims[entry["claim"]]
        else:
            number = entry.pop("call")
            entry["span"] = spans[number] = Span(entry.pop("begin"))
        if kind == "claims":
            entry["topics"] = tuple(entry["topics"])
        call = _KINDS[kind](**entry)
        if kind == "claims":
            claims[number] = call
        getattr(history, kind).append(call)
    if died is not None:
        for claim in history.claims:
            if claim.releases:
                claim.span.end = min(claim.span.end, died)
    return history
