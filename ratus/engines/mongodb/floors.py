"""Where the next claim on a topic begins to look.

What has been claimed or deleted leaves tombstones at the head of the index, which a scan from its beginning would pass
anew every time. So a claim begins where the one before has ended, unless something earlier has become pending since.
What this process makes pending lowers the floor at once. For what others do there is a look below it from time to
time, and always before a topic is said to have no due task.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from ratus.engines.mongodb.documents import MIN_TIME
from ratus.errors import RatusError, StorageUnavailable
from ratus.model import Task, TaskState

T = TypeVar("T")
Entry = TypeVar("Entry")

_MAX_TOPICS: Final = 10_000
_SHORTEST_PAUSE: Final = 0.25  # seconds between looks below a floor
_SHARE: Final = 20  # times as long as a look takes is the pause after it, at least


@dataclass(slots=True)
class Floor:
    """No pending task of the topic is scheduled before `at`, as far as we know; None if nothing is known."""

    at: datetime | None = None
    lowered: int = 0  # how often
    next_look: float = 0.0  # on the monotonic clock

    def lift(self, to: datetime, lowered: int) -> None:
        """Nothing is pending before `to`, as was found out since `lowered` was read."""
        if self.lowered == lowered:
            self.at = to if to > MIN_TIME else None  # that is what everything before it is read as

    def lower(self, to: datetime | None) -> None:
        """Something is pending at this time, or at one that is not known."""
        if to is None or to <= MIN_TIME:
            self.at = None
        elif self.at is not None:
            self.at = min(self.at, to)
        self.lowered += 1

    @property
    def wants_look(self) -> bool:
        """Whether it is time to look below."""
        return self.at is not None and time.monotonic() >= self.next_look

    def looked(self, seconds: float) -> None:
        """A look has taken so long."""
        self.next_look = time.monotonic() + max(_SHORTEST_PAUSE, _SHARE * seconds)


class Floors:
    """The floors of the topics that were claimed from lately."""

    def __init__(self) -> None:
        self._floors: dict[str, Floor] = {}

    def of(self, topic: str) -> Floor:
        """The floor of a topic."""
        floor = self._floors.get(topic)
        if floor is None:
            while len(self._floors) >= _MAX_TOPICS:
                del self._floors[next(iter(self._floors))]
            floor = self._floors[topic] = Floor()
        return floor

    def pending(self, tasks: Iterable[Task]) -> None:
        """Tasks may have become pending, those among them that are."""
        if self._floors:
            for task in tasks:
                if task.state == TaskState.PENDING:
                    self.lower(task.topic, task.scheduled)

    def lower(self, topic: str, to: datetime | None = None) -> None:
        """Something of a topic has become pending, at a time that may not be known."""
        floor = self._floors.get(topic)
        if floor is not None:
            floor.lower(to)

    def lower_all(self) -> None:
        """Anything may have become pending."""
        for floor in self._floors.values():
            floor.lower(None)

    def noting(
        self, put: Callable[[Sequence[Task]], Awaitable[list[bool]]]
    ) -> Callable[[Sequence[Task]], Awaitable[list[bool]]]:
        """The same, and note what is put, whether that is known to have been stored or not."""

        async def noted(tasks: Sequence[Task]) -> list[bool]:
            try:
                return await put(tasks)
            finally:
                self.pending(tasks)

        return noted

    def noting_commits(
        self, apply: Callable[[Sequence[Entry]], Awaitable[list[Task | RatusError]]]
    ) -> Callable[[Sequence[Entry]], Awaitable[list[Task | RatusError]]]:
        """The same, and note what commits have made pending."""

        async def noted(entries: Sequence[Entry]) -> list[Task | RatusError]:
            results: list[Task | RatusError] = []
            try:
                results = await apply(entries)
            finally:
                if not results or any(isinstance(result, StorageUnavailable) for result in results):
                    self.lower_all()
                self.pending(result for result in results if isinstance(result, Task))
            return results

        return noted

    async def freeing(self, work: Awaitable[T], topics: Callable[[T], Iterable[str | None]]) -> T:
        """Do this, and note in which topics tasks have become pending by it, nobody knows for when."""
        try:
            result = await work
        except BaseException:
            self.lower_all()
            raise
        for topic in topics(result):
            if topic is not None:
                self.lower(topic)
        return result
