"""Windows: what was delivered to streams and still counts against them.

A task counts from the moment it is claimed for a stream until it is settled: committed, released, deleted or
claimed anew, through whatever call, or past its deadline.
"""

import heapq
from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec import Struct

from ratus.model import Commit, Hold, Task


class _Delivered(Struct, frozen=True):
    nonce: str
    deadline: datetime
    size: int


class Window:
    """What one stream holds; `on_change` is called whenever that has become less."""

    def __init__(
        self, index: dict[str, "Window"], max_in_flight: int, max_bytes: int, on_change: Callable[[], None]
    ) -> None:
        self._index = index
        self._max_in_flight = max_in_flight
        self._max_bytes = max_bytes
        self._on_change = on_change
        self._delivered: dict[str, _Delivered] = {}
        self._by_deadline: dict[datetime, set[str]] = {}  # what one claim has brought has one deadline
        self._deadlines: list[datetime] = []  # a heap, in which those without tasks may linger
        self._bytes = 0
        self.reserved = 0  # places kept for claims that are under way
        self.lost: list[str] = []  # tasks whose promises ended without their holder having said so

    @property
    def has_room(self) -> bool:
        """Whether one more task may be claimed."""
        if len(self._delivered) + self.reserved >= self._max_in_flight:
            return False
        return not self._max_bytes or self._bytes < self._max_bytes

    def resize(self, max_in_flight: int, max_bytes: int) -> None:
        """Set other bounds; what is held beyond them stays."""
        self._max_in_flight = max_in_flight
        self._max_bytes = max_bytes
        self._on_change()

    def fits(self, task: Task) -> bool:
        """Whether a task that was claimed may be delivered; one always may."""
        return not self._max_bytes or not self._delivered or self._bytes + size_of(task) <= self._max_bytes

    def add(self, task: Task) -> None:
        """Count a task, against this window and no other any more."""
        deadline, size = task.deadline, size_of(task)
        assert deadline is not None  # it has just been claimed
        if (other := self._index.get(task.id)) is not None:
            other.settle(task.id, lost=True)
        self._index[task.id] = self
        self._delivered[task.id] = _Delivered(task.nonce, deadline, size)
        self._bytes += size
        self._note(deadline, task.id)

    def settle(self, id: str, nonce: str | None = None, *, lost: bool = False) -> None:
        """Count a task no more, with a nonce only if it counts with that one."""
        delivered = self._delivered.get(id)
        if delivered is None or (nonce is not None and nonce != delivered.nonce):
            return
        del self._delivered[id], self._index[id]
        self._bytes -= delivered.size
        self._forget(delivered.deadline, id)
        if lost:
            self.lost.append(id)
        self._on_change()

    def extend(self, id: str, nonce: str, deadline: datetime) -> None:
        """Count a task until another deadline, if it counts with this nonce."""
        delivered = self._delivered.get(id)
        if delivered is not None and delivered.nonce == nonce:
            self._forget(delivered.deadline, id)
            self._delivered[id] = _Delivered(nonce, deadline, delivered.size)
            self._note(deadline, id)
            self._on_change()  # it may be an earlier one

    def expire(self, now: datetime) -> None:
        """Count the tasks no more whose deadline has passed."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            for id in list(self._by_deadline[deadline]):
                self.settle(id, lost=True)

    def next_deadline(self) -> datetime | None:
        """The earliest deadline of what counts."""
        while self._deadlines:
            if self._deadlines[0] in self._by_deadline:
                return self._deadlines[0]
            heapq.heappop(self._deadlines)
        return None

    def _note(self, deadline: datetime, id: str) -> None:
        """Remember when a task counts no more."""
        ids = self._by_deadline.get(deadline)
        if ids is not None:
            ids.add(id)
            return
        self._by_deadline[deadline] = {id}
        if len(self._deadlines) > 2 * len(self._by_deadline) + 64:
            self._deadlines = list(self._by_deadline)
            heapq.heapify(self._deadlines)
        else:
            heapq.heappush(self._deadlines, deadline)

    def _forget(self, deadline: datetime, id: str) -> None:
        ids = self._by_deadline[deadline]
        ids.discard(id)
        if not ids:
            del self._by_deadline[deadline]

    def holds(self) -> list[Hold]:
        """What counts."""
        return [Hold(id, delivered.nonce) for id, delivered in self._delivered.items()]

    def close(self) -> None:
        """Count nothing any more."""
        for id in self._delivered:
            del self._index[id]
        self._delivered.clear()
        self._by_deadline.clear()
        self._deadlines.clear()

    def hold(self, id: str) -> Hold:
        """The delivery of a task that counts."""
        return Hold(id, self._delivered[id].nonce)


class Windows:
    """The windows of all streams of this process, found by what they hold."""

    def __init__(self) -> None:
        self._index: dict[str, Window] = {}

    @property
    def empty(self) -> bool:
        """Whether no stream holds anything."""
        return not self._index

    def open(self, max_in_flight: int, max_bytes: int, on_change: Callable[[], None]) -> Window:
        """Make a window of so many tasks and so many payload bytes (0: no bound)."""
        return Window(self._index, max_in_flight, max_bytes, on_change)

    def settle(self, holds: Iterable[Hold | Commit], *, lost: bool = False) -> None:
        """Count deliveries no more, whichever windows hold them; what was delivered anew since counts on."""
        if self._index:
            for hold in holds:
                window = self._index.get(hold.id)
                if window is not None:
                    window.settle(hold.id, hold.nonce, lost=lost)

    def extend(self, id: str, nonce: str, deadline: datetime) -> None:
        """Count a task until another deadline, whichever window holds it."""
        if (window := self._index.get(id)) is not None:
            window.extend(id, nonce, deadline)

    def holds(self) -> list[Hold]:
        """What all windows hold."""
        return [hold for window in set(self._index.values()) for hold in window.holds()]

    def holds_of(self, ids: Iterable[str]) -> list[Hold]:
        """What windows hold of these tasks."""
        if not self._index:
            return []
        return [window.hold(id) for id in dict.fromkeys(ids) if (window := self._index.get(id)) is not None]


def size_of(task: Task) -> int:
    """The bytes of a payload."""
    return 0 if task.payload is None else memoryview(task.payload).nbytes
