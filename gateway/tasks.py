"""The endpoints of tasks. For a single task the topic of the path is ignored, but an insert takes it as its default."""

from collections.abc import Iterable
from functools import partial

from msgspec import Struct, field

from gateway import answers, bodies, errors, queries
from gateway.answers import Answer
from gateway.calls import Call
from gateway.paging import collect
from gateway.paths import Route
from ratus.backend import Backend
from ratus.errors import RatusError
from ratus.model import Task


class CommitOutcome(Struct, omit_defaults=True):
    """What a commit of a batch has come to: an error, or the task after it if that was asked for and fits."""

    id: str = field(name="_id")
    error: errors.ErrorBody | None = None
    task: Task | None = None


class Tasks:
    """Lists, gets, inserts, upserts, deletes and commits tasks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[Route]:
        """What is served, and by what."""
        return (
            Route("GET", "/topics/:topic/tasks", self.list_tasks),
            Route("POST", "/topics/:topic/tasks", self.insert_tasks, reads_body=True),
            Route("PUT", "/topics/:topic/tasks", self.upsert_tasks, reads_body=True),
            Route("PATCH", "/topics/:topic/tasks", self.commit_tasks, reads_body=True),
            Route("DELETE", "/topics/:topic/tasks", self.delete_tasks),
            Route("GET", "/topics/:topic/tasks/:id", self.get_task),
            Route("POST", "/topics/:topic/tasks/:id", self.insert_task, reads_body=True),
            Route("PUT", "/topics/:topic/tasks/:id", self.upsert_task, reads_body=True),
            Route("DELETE", "/topics/:topic/tasks/:id", self.delete_task),
            Route("PATCH", "/topics/:topic/tasks/:id", self.commit_task, reads_body=True),
        )

    async def list_tasks(self, call: Call) -> Answer:
        """List the tasks of a topic."""
        page = queries.page(call.query)
        return answers.listed(await collect(partial(self._backend.list_tasks, call.topic), page))

    async def insert_tasks(self, call: Call) -> Answer:
        """Insert a batch of tasks and leave those that exist."""
        done = await self._backend.insert_tasks(bodies.tasks(call.body, call.topic))
        return answers.updated(done.created, done.updated)

    async def upsert_tasks(self, call: Call) -> Answer:
        """Insert or replace a batch of tasks."""
        done = await self._backend.upsert_tasks(bodies.tasks(call.body, call.topic))
        return answers.updated(done.created, done.updated)

    async def commit_tasks(self, call: Call) -> Answer:
        """Apply a batch of commits in order, each with its outcome."""
        commits = bodies.commits(call.body)
        return_tasks = queries.flag(queries.values(call.query), "return_tasks")
        outcomes = await self._backend.commit_tasks(commits, return_tasks)
        return answers.listed([_outcome(commit.id, outcome) for commit, outcome in zip(commits, outcomes, strict=True)])

    async def delete_tasks(self, call: Call) -> Answer:
        """Delete the tasks of a topic."""
        return answers.deleted(await self._backend.delete_tasks(call.topic))

    async def get_task(self, call: Call) -> Answer:
        """Get a task."""
        return answers.ok(await self._backend.get_task(call.id))

    async def insert_task(self, call: Call) -> Answer:
        """Insert a task."""
        done = await self._backend.insert_task(bodies.task(call.body, call.topic, call.id))
        return answers.updated(done.created, done.updated)

    async def upsert_task(self, call: Call) -> Answer:
        """Insert or replace a task."""
        done = await self._backend.upsert_task(bodies.task(call.body, call.topic, call.id))
        return answers.updated(done.created, done.updated)

    async def delete_task(self, call: Call) -> Answer:
        """Delete a task."""
        return answers.deleted(await self._backend.delete_task(call.id))

    async def commit_task(self, call: Call) -> Answer:
        """Apply a commit to a task."""
        return answers.ok(await self._backend.commit_task(bodies.commit(call.body, call.id)))


def _outcome(id: str, outcome: Task | RatusError | None) -> CommitOutcome:
    if isinstance(outcome, RatusError):
        return CommitOutcome(id, errors.body(outcome))
    return CommitOutcome(id, task=outcome)
