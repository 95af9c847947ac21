"""Batches of commits, extensions and releases, which come in calls of their own and on Work streams."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from google.rpc import status_pb2

from ratus.config import MAX_ANSWER_BYTES
from ratus.core.service import Service
from ratus.errors import RatusError
from ratus.model import Commit, Extension, Hold, Task
from ratus.rpc import wire
from ratus.rpc.errors import to_status
from ratus.rules import each
from ratus.v1 import promise_pb2, task_pb2
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb

OK: Final = status_pb2.Status()
_DONE: Final = task_pb2.CommitResult(status=OK)
_OVERHEAD: Final = 16  # bytes, more than the tags and lengths around a task take


def read_commit(request: tasks_pb.CommitTaskRequest) -> Commit:
    """The commit that a client makes."""
    return wire.read_commit(request.id, request.commit)


async def commit(backend: Any, request: tasks_pb.CommitTasksRequest) -> tasks_pb.CommitTasksResponse:
    """Apply commits in order, each with its outcome."""
    commits = each(request.commits, "commits", read_commit)
    return _commit_results(await backend.commit_tasks(commits, request.return_tasks))


async def extend(backend: Any, request: promises_pb.ExtendPromisesRequest) -> promises_pb.ExtendPromisesResponse:
    """Set the deadlines of promises, each with its outcome."""
    extensions = each(request.extensions, "extensions", _read_extension)
    outcomes = await backend.extend_promises(extensions)
    return promises_pb.ExtendPromisesResponse(
        results=[promise_pb2.ExtendResult(status=_status(outcome)) for outcome in outcomes]
    )


async def release(service: Service, request: promise_pb2.Releases) -> promise_pb2.ReleaseResults:
    """Give promises back, each with its outcome."""
    outcomes = await service.release_promises([Hold(entry.id, entry.nonce) for entry in request.releases])
    return promise_pb2.ReleaseResults(
        results=[promise_pb2.ReleaseResult(status=_status(outcome)) for outcome in outcomes]
    )


def _read_extension(message: promise_pb2.Extension) -> Extension:
    return Extension(
        id=message.id,
        nonce=message.nonce,
        deadline=wire.read_moment(message, "deadline"),
        timeout=wire.read_span(message, "timeout"),
    )


def _status(outcome: RatusError | None) -> status_pb2.Status:
    return OK if outcome is None else to_status(outcome)


@lru_cache(maxsize=16)  # what one client sends has one size mostly
def _all_done(count: int) -> tasks_pb.CommitTasksResponse:
    """So many successes without their tasks; shared, so not to be changed."""
    return tasks_pb.CommitTasksResponse(results=[_DONE] * count)


def _commit_results(outcomes: Sequence[Task | RatusError | None]) -> tasks_pb.CommitTasksResponse:
    """All outcomes, and the tasks among them while they fit into one message."""
    if not any(outcomes):
        return _all_done(len(outcomes))
    response = tasks_pb.CommitTasksResponse(
        results=[
            task_pb2.CommitResult(status=to_status(outcome)) if isinstance(outcome, RatusError) else _DONE
            for outcome in outcomes
        ]
    )
    tasks = [(index, outcome) for index, outcome in enumerate(outcomes) if isinstance(outcome, Task)]
    size = response.ByteSize() if tasks else 0
    for index, outcome in tasks:
        task = task_pb2.Task(**wire.write_task(outcome))
        size += task.ByteSize() + _OVERHEAD
        if size > MAX_ANSWER_BYTES:
            break
        response.results[index].task.CopyFrom(task)
    return response
