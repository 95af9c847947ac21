"""What the contract says, as simply as it can be said: a dictionary of tasks, and nothing else that is kept.

Nothing here is shared with the rules or with an engine. Where the contract leaves something open, such as the order of
tasks that were changed and are scheduled for the same moment, a method says what is allowed instead of what is.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from datetime import datetime, timedelta
from itertools import pairwise

from ratus.model import Commit, Extension, Grant, Hold, Task, Topic, TopicStats

PENDING, ACTIVE, COMPLETED, ARCHIVED = range(4)
RETENTION = timedelta(hours=72)

MISSING = "NotFound"
NOT_PENDING = "TaskNotPending"
STALE = "NonceMismatch"


class Model:
    """The tasks, and what each operation makes of them."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self._requests: dict[str, str] = {}  # of the promises that hold
        self._settled: set[str] = set()  # tasks that are as they were inserted but for promises

    def insert(self, tasks: Sequence[Task]) -> list[bool]:
        """Store what is new."""
        created = []
        for task in tasks:
            new = task.id not in self.tasks
            if new:
                self.tasks[task.id] = copy(task)
                self._settled.add(task.id)
            created.append(new)
        return created

    def upsert(self, tasks: Sequence[Task]) -> set[str]:
        """Store or replace; the ids that are new."""
        new = {task.id for task in tasks} - self.tasks.keys()
        for task in tasks:
            self.tasks[task.id] = copy(task)
            self._requests.pop(task.id, None)
            self._settled.discard(task.id)
        return new

    def listed(self, topic: str, after: str, skip: int, limit: int, *, active: bool = False) -> list[Task]:
        """A page of tasks, or of active ones."""
        tasks = [task for task in self._of(topic) if task.id.encode() > after.encode()]
        tasks = [task for task in tasks if task.state == ACTIVE or not active]
        return sorted(tasks, key=lambda task: task.id.encode())[skip : skip + limit]

    def delete(self, which: Callable[[Task], bool]) -> int:
        """Delete tasks; their number."""
        gone = [task.id for task in self.tasks.values() if which(task)]
        for id in gone:
            del self.tasks[id]
            self._requests.pop(id, None)
            self._settled.discard(id)
        return len(gone)

    def due(self, topic: str, now: datetime) -> list[Task]:
        """The tasks that a claim may have, the earliest first."""
        due = [task for task in self._of(topic) if task.state == PENDING and task.scheduled <= now]
        return sorted(due, key=lambda task: task.scheduled)

    def check_claim(self, topic: str, grants: Sequence[Grant], max_bytes: int, claimed: Sequence[Task]) -> None:
        """Whether a claim may have had these tasks; they are promised then."""
        now = grants[0].consumed
        due = self.due(topic, now)
        before = [copy(self.tasks[task.id]) for task in claimed]
        assert len({task.id for task in claimed}) == len(claimed), "a task was handed out twice"
        assert all(task in due for task in before), "handed out though not due"
        assert [task.scheduled for task in before] == [task.scheduled for task in due[: len(before)]], "out of order"
        for earlier, later in pairwise(before):
            if earlier.scheduled == later.scheduled and {earlier.id, later.id} <= self._settled:
                order = list(self.tasks)
                assert order.index(earlier.id) < order.index(later.id), "not in the order of insertion"
        sizes = [len(bytes(task.payload or b"")) for task in before]
        assert len(before) <= 1 or sum(sizes) <= max_bytes, "too large together"
        wanted = min(len(due), len(grants))
        if len(before) < wanted:
            assert before, "nothing though one always fits"
            following = [task for task in due if task.scheduled == due[len(before)].scheduled and task not in before]
            largest = max(len(bytes(task.payload or b"")) for task in following)
            assert sum(sizes) + largest > max_bytes, "fewer than there is room for"
        for task, grant in zip(claimed, grants, strict=False):
            self._grant(task.id, grant)
            assert task == self.tasks[task.id]

    def promise(self, id: str, grant: Grant, *, force: bool) -> Task | str:
        """Promise the named task."""
        if id not in self.tasks:
            return MISSING
        if self.tasks[id].state != PENDING and not force:
            return NOT_PENDING
        return self._grant(id, grant)

    def commit(self, commit: Commit) -> Task | str:
        """Apply a commit."""
        task = self.tasks.get(commit.id)
        if task is None:
            return MISSING
        if commit.nonce and commit.nonce != task.nonce:
            return STALE
        assert commit.state is not None
        assert not isinstance(commit.payload, bytes)
        task.nonce = ""
        task.state = commit.state
        task.topic = commit.topic or task.topic
        task.scheduled = commit.scheduled or task.scheduled
        task.payload = task.payload if commit.payload is None else commit.payload
        self._requests.pop(task.id, None)
        self._settled.discard(task.id)
        return copy(task)

    def extend(self, extension: Extension) -> bool:
        """Move the deadline of a promise that is held."""
        held = self.holds(Hold(extension.id, extension.nonce))
        if held:
            self.tasks[extension.id].deadline = extension.deadline
        return held

    def release(self, hold: Hold) -> str | None:
        """Give a promise back; the topic of its task."""
        return self._free(self.tasks[hold.id]) if self.holds(hold) else None

    def holds(self, hold: Hold) -> bool:
        """Whether a promise is held."""
        task = self.tasks.get(hold.id)
        return task is not None and task.state == ACTIVE and task.nonce == hold.nonce

    def delete_promise(self, id: str, nonce: str) -> str | None:
        """Set an active task back to pending; its topic."""
        task = self.tasks.get(id)
        if task is None or task.state != ACTIVE or nonce not in ("", task.nonce):
            return None
        return self._free(task)

    def free(self, which: Callable[[Task], bool]) -> list[str]:
        """Set active tasks back to pending; the topic of each."""
        return [self._free(task) for task in self.tasks.values() if task.state == ACTIVE and which(task)]

    def expire(self, now: datetime) -> int:
        """Delete what was completed long enough ago."""
        return self.delete(
            lambda task: task.state == COMPLETED and task.consumed is not None and task.consumed < now - RETENTION
        )

    def topics(self) -> list[Topic]:
        """The topics that have tasks."""
        names = sorted({task.topic for task in self.tasks.values()}, key=str.encode)
        return [Topic(name, len(list(self._of(name)))) for name in names]

    def stats(self, topic: str, now: datetime) -> TopicStats:
        """How a topic is doing."""
        counts = [sum(task.state == state for task in self._of(topic)) for state in range(4)]
        due = self.due(topic, now)
        later = [task.scheduled for task in self._of(topic) if task.state == PENDING and task.scheduled > now]
        return TopicStats(
            pending=counts[PENDING],
            active=counts[ACTIVE],
            completed=counts[COMPLETED],
            archived=counts[ARCHIVED],
            due=len(due),
            oldest_due=due[0].scheduled if due else None,
            next_scheduled=min(later, default=None),
        )

    def next_scheduled(self, topic: str) -> datetime | None:
        """The earliest time of a pending task."""
        return min((task.scheduled for task in self._of(topic) if task.state == PENDING), default=None)

    def next_deadline(self) -> datetime | None:
        """The earliest deadline of an active task."""
        active = [task for task in self.tasks.values() if task.state == ACTIVE]
        return min((task.deadline for task in active if task.deadline is not None), default=None)

    def requested(self, request: str) -> dict[str, str]:
        """The promises that were made for requests that begin so: the request of each id."""
        return {
            id: found
            for id, found in self._requests.items()
            if found.startswith(request) and self.tasks[id].state == ACTIVE
        }

    def _of(self, topic: str) -> Iterable[Task]:
        return (task for task in self.tasks.values() if topic in ("", task.topic))

    def _grant(self, id: str, grant: Grant) -> Task:
        task = self.tasks[id]
        task.state, task.nonce, task.consumer = ACTIVE, grant.nonce, grant.consumer
        task.consumed, task.deadline = grant.consumed, grant.deadline
        self._requests.pop(id, None)
        if grant.request:
            self._requests[id] = grant.request
        return copy(task)

    def _free(self, task: Task) -> str:
        task.state, task.nonce = PENDING, ""
        self._requests.pop(task.id, None)
        return task.topic
