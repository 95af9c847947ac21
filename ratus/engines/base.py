"""The one protocol of all storage engines. It is batch-first: a single call is a batch of one.

Engines store and find; the rules are in `ratus.rules`, and what reaches an engine has been checked by them.
Every method may raise StorageUnavailable: the storage is unreachable, or the outcome of the write is unknown.
What a method has answered is durable. Results of batches are in the order of their entries.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import BinaryIO, Protocol

from ratus.errors import RatusError
from ratus.model import Check, Commit, Extension, Grant, Hold, Task, Topic, TopicStats

Heard = Callable[[str | None, datetime], None]
Abandoned = Callable[[Sequence[Task]], None]


class Engine(Protocol):
    """Where the tasks live."""

    name: str
    shared: bool  # whether other processes may change the tasks too

    async def open(self) -> None:
        """Get ready; StartError if this can never work. Returns while a remote storage is still unreachable."""

    async def close(self) -> None:
        """Finish what was begun and let go of everything."""

    async def check(self) -> None:
        """Return if the engine could work now, else raise StorageUnavailable."""

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        """Store the tasks whose ids are new, of equal ids the first; tell for each whether it was stored."""

    async def upsert(self, tasks: Sequence[Task]) -> list[bool]:
        """Store or replace the tasks, of equal ids the last; tell for each whether it is new (of equal ids, one is)."""

    async def get(self, id: str) -> Task:
        """The task; NotFound."""

    async def list_tasks(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        """Tasks of a topic, or of all for an empty one, in order of id (UTF-8 bytes), those greater than `after`."""

    async def delete(self, id: str) -> int:
        """Delete a task; the number of deleted tasks."""

    async def delete_tasks(self, topic: str, state: int | None) -> int:
        """Delete the tasks of a topic, in one state or in any; the number of deleted tasks."""

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
        """Give the due pending tasks of a topic with the earliest `scheduled` to the grants, in order.

        Due is what is scheduled not after `consumed` of the first grant, or of another call that shares the claim; then
        the promise is made when the task was due. Answers as many tasks as were due and
        grants were given; fewer once their payloads exceed `max_bytes`, but one always fits.

        Claims that come at the same time cost little more than one. One that has begun is not stopped for a caller that
        is cancelled; `abandoned` is then called with its tasks.
        """

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        """Give the named task to the grant if it is pending, or in any state with `force`; NotFound, TaskNotPending."""

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        """Apply commits in order; each becomes the task after it, or NotFound or NonceMismatch.

        Without `payloads` the tasks may come without theirs, which spares reading them.
        """

    async def extend(self, extensions: Sequence[Extension]) -> list[bool]:
        """Set the deadlines of promises that are held (active, same nonce); tell for each whether it was."""

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        """Set tasks that are held (active, same nonce) back to pending; the topic for each that was, else None."""

    async def held(self, holds: Sequence[Hold]) -> list[bool]:
        """Tell for each whether its task is still active with this nonce."""

    async def get_promise(self, id: str) -> Task:
        """The task if it is active; NotFound."""

    async def list_promises(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        """Active tasks, as `list_tasks`; payloads may be left out."""

    async def delete_promise(self, id: str, nonce: str) -> str | None:
        """Set an active task back to pending, with a nonce only if it is still the task's; its topic, or None."""

    async def delete_promises(self, topic: str) -> int:
        """Set all active tasks of a topic back to pending; their number."""

    async def list_topics(self, after: str, skip: int, limit: int) -> list[Topic]:
        """Topics that have tasks, in order of name (UTF-8 bytes), those greater than `after`."""

    async def get_topic(self, topic: str) -> Topic:
        """The topic; NotFound if it has no tasks."""

    async def get_stats(self, topic: str, now: datetime) -> TopicStats:
        """Counts and times of a topic; `waiting_consumers` is not the engine's."""

    async def delete_topics(self) -> int:
        """Delete all tasks; their number."""

    async def recover(self, now: datetime) -> list[str]:
        """Set active tasks whose deadline has passed (before `now`) back to pending; their topics, each once."""

    async def expire(self, now: datetime) -> int:
        """Delete completed tasks consumed longer ago than the retention period, unless the storage does so itself."""

    async def next_scheduled(self, topic: str) -> datetime | None:
        """The earliest `scheduled` of the pending tasks of a topic, due or not."""

    async def next_deadline(self) -> datetime | None:
        """The earliest deadline of all active tasks."""

    async def requested(self, request: str) -> list[tuple[str, Task]]:
        """Active tasks whose grants had a request that begins so, by `scheduled`, each with the whole request."""

    async def due_topics(self, topics: Sequence[str], now: datetime) -> list[str]:
        """Those of the topics that have a due task; one call for all."""

    async def watch(self, heard: Heard) -> None:
        """Tell what becomes pending through other processes, until cancelled.

        `heard` gets the topic and the time of a task, or None for the topic when anything may have become pending, as
        it may have before the watch has begun. Returns if the storage cannot tell; StorageUnavailable.
        """

    async def diagnose(self, *, thorough: bool) -> list[Check]:
        """What an operator should know of the storage; reads all of it for damage if `thorough` and able to."""

    async def backup(self) -> BinaryIO:
        """A copy of the storage as it is at one moment, in a file that has no name any more; Unsupported.

        Neither writers nor readers wait for it. Cancelled, it stops soon.
        """
