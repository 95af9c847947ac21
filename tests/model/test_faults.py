"""The machine finds faults: engines that do something wrong do not pass."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from ratus.config import SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine
from ratus.errors import RatusError
from ratus.model import Commit, Grant, Hold, Task
from tests.model.conftest import WITHOUT_SHRINKING, Run
from tests.model.machine import EngineMachine


class Forgets(SQLiteEngine):
    """Acknowledges the last task of a batch and does not store it."""

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        if len(tasks) < 2:
            return await super().insert(tasks)
        return [*await super().insert(tasks[:-1]), tasks[-1].id not in {task.id for task in tasks[:-1]}]


class HandsOutTwice(SQLiteEngine):
    """Gives a promised task to whoever asks for it by its name."""

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        return await super().promise(id, grant, force=True)


class HandsOutEarly(SQLiteEngine):
    """Has a clock that is half a second fast."""

    async def claim(self, topic: str, grants: Sequence[Grant], max_bytes: int) -> list[Task]:
        fast = [replace(grant, consumed=grant.consumed + timedelta(seconds=0.5)) for grant in grants]
        return await super().claim(topic, fast, max_bytes)


class IgnoresNonces(SQLiteEngine):
    """Applies every commit."""

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        return await super().commit([replace(commit, nonce="") for commit in commits], payloads=payloads)


class Archives(SQLiteEngine):
    """Archives what was given back, which nobody will see again."""

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        topics = await super().release(holds)
        for hold, topic in zip(holds, topics, strict=True):
            if topic is not None:
                await super().commit([Commit(id=hold.id, state=3)])
        return topics


class RecoversLate(SQLiteEngine):
    """Misses what has expired within the last second."""

    async def recover(self, now: datetime) -> list[str]:
        return await super().recover(now - timedelta(seconds=1))


@pytest.mark.parametrize("fault", [Forgets, HandsOutTwice, HandsOutEarly, IgnoresNonces, Archives, RecoversLate])
def test_a_fault_is_found(fault: type[SQLiteEngine], run_machine: Run) -> None:
    engine = fault(SQLiteSettings(path=None))
    with asyncio.Runner() as runner:
        runner.run(engine.open())
        with pytest.raises(AssertionError):
            run_machine(lambda: EngineMachine(engine, runner, expires=True), 300, phases=WITHOUT_SHRINKING)
        runner.run(engine.close())
