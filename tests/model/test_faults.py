"""The machines find faults: engines and services that do something wrong do not pass."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from ratus.config import SQLiteSettings
from ratus.core.service import Service
from ratus.engines.base import Abandoned
from ratus.engines.sqlite import SQLiteEngine
from ratus.errors import NonceMismatch, RatusError
from ratus.model import ClaimRequest, Commit, Extension, Grant, Hold, Page, PageRequest, Task, TaskInput, Updated
from tests.model.conftest import WITHOUT_SHRINKING, Run
from tests.model.engine_machine import EngineMachine
from tests.model.service_machine import ServiceMachine
from tests.model.service_reads import Clock


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

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
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


ENGINES = [Forgets, HandsOutTwice, HandsOutEarly, IgnoresNonces, Archives, RecoversLate]


class ForgetsRequests(Service):
    """Takes a repeated claim for another one."""

    async def claim_tasks(self, request: ClaimRequest) -> list[Task]:
        return await super().claim_tasks(replace(request, request_id=""))


class SkipsOne(Service):
    """Leaves out the task behind a page."""

    async def list_tasks(self, topic: str, page: PageRequest) -> Page[Task]:
        return await super().list_tasks(topic, replace(page, offset=page.offset + bool(page.token)))


class StopsAtTheFirst(Service):
    """Lets what fails in a batch of commits fail what comes after it."""

    async def commit_tasks(self, commits: Sequence[Commit], return_tasks: bool) -> list[Task | RatusError | None]:
        results: list[Task | RatusError | None] = []
        for commit in commits:
            if results and isinstance(results[-1], RatusError):
                results.append(results[-1])
            else:
                results += await super().commit_tasks([commit], return_tasks)
        return results


class SaysYes(Service):
    """Acknowledges every extension."""

    async def extend_promises(self, extensions: Sequence[Extension]) -> list[RatusError | None]:
        return [None for _ in await super().extend_promises(extensions)]


class InsertsInParts(Service):
    """Stores what stands before a malformed entry."""

    async def insert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        try:
            return await super().insert_tasks(tasks)
        except RatusError:
            await super().insert_tasks(tasks[:-1])
            raise


class NeverRecovers(Service):
    """Leaves what has expired as it is."""

    async def recover(self) -> None:
        pass


class DoesNotWake(Service):
    """Does not tell those who wait that something was given back."""

    async def release_promises(self, holds: Sequence[Hold]) -> list[RatusError | None]:
        topics = await self._engine.release(holds)
        return [None if topic is not None else NonceMismatch() for topic in topics]


SERVICES = [ForgetsRequests, SkipsOne, StopsAtTheFirst, SaysYes, InsertsInParts, NeverRecovers, DoesNotWake]


@pytest.mark.parametrize("fault", ENGINES)
def test_a_fault_of_an_engine_is_found(fault: type[SQLiteEngine], run_machine: Run) -> None:
    engine = fault(SQLiteSettings(path=None))
    with asyncio.Runner() as runner:
        runner.run(engine.open())
        with pytest.raises(AssertionError):
            run_machine(lambda: EngineMachine(engine, runner, expires=True), 300, phases=WITHOUT_SHRINKING)
        runner.run(engine.close())


@pytest.mark.parametrize("fault", [Forgets, HandsOutEarly, IgnoresNonces])
def test_it_is_found_behind_the_service_too(fault: type[SQLiteEngine], clock: Clock, run_machine: Run) -> None:
    drive(fault(SQLiteSettings(path=None)), Service, clock, run_machine)


@pytest.mark.parametrize("fault", SERVICES)
def test_a_fault_of_the_service_is_found(fault: type[Service], clock: Clock, run_machine: Run) -> None:
    drive(SQLiteEngine(SQLiteSettings(path=None)), fault, clock, run_machine)


def drive(engine: SQLiteEngine, kind: type[Service], clock: Clock, run_machine: Run) -> None:
    def machine() -> ServiceMachine:
        return ServiceMachine(engine, runner, clock, expires=True, kind=kind, patience=5)

    with asyncio.Runner() as runner:
        runner.run(engine.open())
        with pytest.raises(AssertionError):
            run_machine(machine, 300, phases=WITHOUT_SHRINKING)
        runner.run(engine.close())
