"""What clients did and what they were told, as the checker reads it.

Times are milliseconds since the epoch by the clock of whoever wrote them: `begin`, `end` and `received` by that of
the clients, `scheduled`, `consumed` and `deadline` by that of the server. Both run on one machine; where a test lets
the clock of the server jump, the history says how far it was ahead.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf
from typing import Final, TypeVar

from ratus.model import Task, TaskState
from ratus.times import to_ms

LOOKED: Final = 2000  # ms that may lie between a look of the server at the clock and what it does then


class Outcome(Enum):
    """What a client knows of a call; until it has ended, and when its end tells nothing, that is UNKNOWN."""

    OK = "ok"
    REFUSED = "refused"  # it has certainly changed nothing
    UNKNOWN = "unknown"


def clock() -> float:
    """Now, by the clients' clock."""
    return time.time() * 1000


@dataclass(slots=True)
class Span:
    """When a call ran and what came of it; `error` is the reason that the server gave. `on_end` is told of its end."""

    begin: float = field(default_factory=clock)
    end: float = inf
    outcome: Outcome = Outcome.UNKNOWN
    error: str = ""
    on_end: "Callable[[Span], None] | None" = None

    def finish(self, outcome: Outcome, error: str = "") -> None:
        self.end, self.outcome, self.error = clock(), outcome, error
        if self.on_end is not None:
            self.on_end(self)

    def until(self, moment: float) -> "Span":
        """As it was known then."""
        return self if self.end <= moment else Span(self.begin)


@dataclass(frozen=True, slots=True)
class Insert:
    """A new task; no `scheduled` means at once. REFUSED means that the id was taken."""

    id: str
    topic: str
    payload: str
    scheduled: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class Claim:
    """A call or a stream that may be handed tasks; a stream is UNKNOWN for ever, since it may have lost some.

    With `releases`, what it holds may be given back as soon as it has ended. `request` is the id of a claim that may
    be repeated.
    """

    consumer: str
    topics: tuple[str, ...]
    span: Span
    releases: bool = False
    request: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A task that a consumer was handed, at the latest when it `received` it."""

    id: str
    topic: str
    nonce: str
    consumer: str
    scheduled: int
    consumed: int
    deadline: int
    claim: Claim
    received: float = field(default_factory=clock)


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a promise. Each attempt has a payload of its own, which tells whose effect is seen."""

    id: str
    nonce: str
    payload: str
    span: Span
    state: int = TaskState.COMPLETED
    scheduled: int | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """A new deadline for a promise."""

    id: str
    nonce: str
    deadline: int
    span: Span


@dataclass(frozen=True, slots=True)
class Release:
    """A promise that was given back."""

    id: str
    nonce: str
    span: Span


@dataclass(frozen=True, slots=True)
class Jump:
    """The clock of the server was set, some time between two moments of the clients, to be so many ms ahead."""

    begin: float
    end: float
    ahead: float


@dataclass(slots=True)
class History:
    """All that the clients of a run did, each call from its begin on."""

    inserts: list[Insert] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    extensions: list[Extension] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    jumps: list[Jump] = field(default_factory=list)

    def shown(self, since: float, until: float) -> tuple[float, float]:
        """The earliest and the latest that the server's clock may have shown for what the server did in this time.

        It may have looked some time before.
        """
        until = max(since, until)
        begins = [-inf, *(jump.begin for jump in self.jumps)]
        ends = [*(jump.end for jump in self.jumps), inf]
        shown = [
            (max(since, begin) + ahead, min(until, end) + ahead)
            for begin, end, ahead in zip(begins, ends, [0.0, *(jump.ahead for jump in self.jumps)], strict=True)
            if begin <= until and since - LOOKED <= end
        ]
        return min(earliest for earliest, _ in shown), max(latest for _, latest in shown)

    def until(self, moment: float) -> "History":
        """What was known then, of what had begun by then."""
        return History(
            inserts=_until(self.inserts, moment),
            claims=_until(self.claims, moment),
            deliveries=[
                replace(one, claim=replace(one.claim, span=one.claim.span.until(moment)))
                for one in self.deliveries
                if one.received <= moment
            ],
            commits=_until(self.commits, moment),
            extensions=_until(self.extensions, moment),
            releases=_until(self.releases, moment),
            jumps=[jump for jump in self.jumps if jump.begin <= moment],
        )

    def add(self, other: "History") -> None:
        """Take what another one has."""
        self.inserts += other.inserts
        self.claims += other.claims
        self.deliveries += other.deliveries
        self.commits += other.commits
        self.extensions += other.extensions
        self.releases += other.releases

    def spans(self) -> Iterable[Span]:
        """Those of all calls and streams."""
        for calls in (self.inserts, self.claims, self.commits, self.extensions, self.releases):
            yield from (call.span for call in calls)


@dataclass(frozen=True, slots=True)
class Stored:
    """A task as the storage has it in the end."""

    id: str
    topic: str
    state: int
    nonce: str
    consumer: str
    scheduled: int
    consumed: int | None
    payload: str

    @classmethod
    def of(cls, task: Task) -> "Stored":
        return cls(
            id=task.id,
            topic=task.topic,
            state=task.state,
            nonce=task.nonce,
            consumer=task.consumer,
            scheduled=to_ms(task.scheduled),
            consumed=None if task.consumed is None else to_ms(task.consumed),
            payload="" if task.payload is None else bytes(task.payload).decode(),
        )


C = TypeVar("C", Insert, Claim, Commit, Extension, Release)


def _cut(call: C, moment: float) -> C | None:
    return replace(call, span=call.span.until(moment)) if call.span.begin <= moment else None


def _until(calls: list[C], moment: float) -> list[C]:
    return [cut for call in calls if (cut := _cut(call, moment)) is not None]
