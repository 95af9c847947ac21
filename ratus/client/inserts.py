"""Inserts: concurrent ones are gathered into one call, and repeated until their outcome is known.

An insert whose answer was lost is repeated, and finds the task if the first attempt stored it. When the task that it
finds has the topic and the payload of the one to insert, it counts as inserted.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from ratus.client import payloads
from ratus.errors import BadRequest, RatusError, TaskExists, TooLarge, Unavailable
from ratus.gather import Gatherer
from ratus.model import TaskInput
from ratus.rpc.connection import Connection, OneAttempt
from ratus.rpc.remote_calls import RemoteCalls

Outcome: TypeAlias = RatusError | None

MAX_BATCH: Final = 1000  # entries of 4 KiB


class Inserter:
    """Inserts single tasks in batches."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._calls = RemoteCalls(OneAttempt(connection))
        self._gatherer = Gatherer(self._run, MAX_BATCH, _weight)

    async def insert(self, task: TaskInput) -> None:
        """Insert a task; TaskExists and other RatusError."""
        [outcome] = await self._gatherer.submit([task])
        if outcome is not None:
            raise outcome

    async def close(self) -> None:
        """Return when all is done."""
        await self._gatherer.close()

    async def _run(self, tasks: Sequence[TaskInput]) -> list[Outcome]:
        repeated = False
        patience = self._connection.patience()
        while True:
            try:
                done = await self._calls.insert_tasks(tasks)
            except (BadRequest, TooLarge) as error:  # one of them fails all
                if len(tasks) == 1:
                    return [_as_single(error)]
                half = len(tasks) // 2
                return [*await self._run(tasks[:half]), *await self._run(tasks[half:])]
            except Unavailable as error:
                if not await patience.again():
                    return [error] * len(tasks)
                repeated = True
                continue
            except RatusError as error:
                return [error] * len(tasks)
            outcomes = _outcomes(tasks, done.existing_ids)
            if repeated:
                return [await self._judge(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True)]
            return outcomes

    async def _judge(self, task: TaskInput, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, TaskExists):
            return outcome
        try:
            stored = await self._calls.get_task(task.id)
        except RatusError:
            return outcome
        same = stored.topic == task.topic and payloads.decode(stored.payload) == payloads.decode(task.payload)
        return None if same else outcome


def _outcomes(tasks: Sequence[TaskInput], existing: Sequence[str]) -> list[Outcome]:
    """TaskExists for tasks that existed before, and for all but the first of the same ID."""
    seen = set(existing)
    outcomes: list[Outcome] = []
    for task in tasks:
        outcomes.append(TaskExists() if task.id in seen else None)
        seen.add(task.id)
    return outcomes


def _as_single(error: BadRequest | TooLarge) -> RatusError:
    """The error as the call for a single task says it."""
    if isinstance(error, BadRequest):
        return BadRequest(error.description, field=error.field.replace("tasks[0]", "task"), bare=error.bare)
    return TooLarge(error.detail.replace("tasks[0]", "task"))


def _weight(task: TaskInput) -> int:
    return 1 if task.payload is None else 1 + len(task.payload) // 4096
