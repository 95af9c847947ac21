"""The protocol that the REST face calls: the service in the same process, or a gRPC client in front of another.

What is given is as the client gave it; the rules are applied behind this protocol. All methods raise the errors
of `ratus.errors`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from ratus.errors import RatusError
from ratus.model import (
    ClaimRequest,
    Commit,
    Extension,
    Page,
    PageRequest,
    PollRequest,
    Promise,
    ServerInfo,
    Task,
    TaskInput,
    Topic,
    TopicStats,
    Updated,
)


class Stream(Protocol):
    """Delivery of tasks as they become due."""

    async def next(self, idle: timedelta | None = None) -> list[Task]:
        """The next tasks, no more than an answer can hold; none after `idle` without any. Draining."""

    def close(self, unsent: Sequence[Task] = ()) -> None:
        """End it; what was not sent on to the client is given back at once."""


class Backend(Protocol):
    """All calls of the four services, but Work, whose place in REST is taken by the calls that it consists of."""

    async def list_tasks(self, topic: str, page: PageRequest) -> Page[Task]:
        """A page of the tasks of a topic, or of all for an empty one; may hold fewer than asked for (see its token)."""

    async def get_task(self, id: str) -> Task:
        """A task; NotFound."""

    async def insert_task(self, task: TaskInput) -> Updated:
        """Insert a task; TaskExists."""

    async def insert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert tasks and leave those that exist; of equal ids the first is kept."""

    async def upsert_task(self, task: TaskInput) -> Updated:
        """Insert or replace a task."""

    async def upsert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert or replace tasks; of equal ids the last is kept."""

    async def delete_task(self, id: str) -> int:
        """Delete a task; the number of deleted tasks."""

    async def delete_tasks(self, topic: str, state: int | None = None) -> int:
        """Delete the tasks of a topic, in one state or in any; the number of deleted tasks."""

    async def commit_task(self, commit: Commit) -> Task:
        """Apply a commit and answer the task after it; NotFound, NonceMismatch."""

    async def commit_tasks(self, commits: Sequence[Commit], return_tasks: bool) -> list[Task | RatusError | None]:
        """Apply commits in order; for each an error, the task after it if asked for and it fits, else None."""

    async def list_topics(self, page: PageRequest) -> Page[Topic]:
        """A page of topics."""

    async def get_topic(self, topic: str) -> Topic:
        """A topic; NotFound."""

    async def get_topic_stats(self, topic: str) -> TopicStats:
        """How a topic is doing."""

    async def delete_topic(self, topic: str) -> int:
        """Delete a topic and its tasks; the number of deleted tasks."""

    async def delete_topics(self) -> int:
        """Delete everything; the number of deleted tasks."""

    async def list_promises(self, topic: str, page: PageRequest) -> Page[Promise]:
        """A page of the promises of a topic, or of all for an empty one."""

    async def get_promise(self, id: str) -> Promise:
        """The promise on an active task; NotFound."""

    async def insert_promise(self, promise: Promise) -> Task:
        """Claim the named task if it is pending; NotFound, TaskNotPending."""

    async def upsert_promise(self, promise: Promise) -> Task:
        """Claim the named task in any state; NotFound."""

    async def delete_promise(self, id: str, nonce: str = "") -> int:
        """Set an active task back to pending; the number of deleted promises."""

    async def delete_promises(self, topic: str) -> int:
        """Set the active tasks of a topic back to pending; the number of deleted promises."""

    async def extend_promises(self, extensions: Sequence[Extension]) -> list[RatusError | None]:
        """Set the deadlines of promises that are held; NonceMismatch for each that is not."""

    def subscribe(self, request: PollRequest) -> Stream:
        """Open a stream of due tasks; BadRequest, Draining, TooMany, here or at the first `next`."""

    async def claim_tasks(self, request: ClaimRequest) -> list[Task]:
        """Claim the next due tasks of a topic."""

    async def get_server_info(self) -> ServerInfo:
        """Facts about the server."""

    async def check_ready(self) -> None:
        """Return if calls can be served now, else raise Unavailable."""
