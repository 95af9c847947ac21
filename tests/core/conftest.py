"""A service on the engine in memory, and what its tests share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry

from ratus.config import Limits, SQLiteSettings
from ratus.core.service import Service
from ratus.core.subscription import Subscription
from ratus.engines.base import Abandoned
from ratus.engines.sqlite import SQLiteEngine
from ratus.errors import StorageUnavailable
from ratus.model import ClaimRequest, Commit, Grant, Task, TaskInput

T = TypeVar("T")
MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)


class Engine(SQLiteEngine):
    """In memory; claims can be counted, held up and made to fail."""

    def __init__(self) -> None:
        super().__init__(SQLiteSettings(path=None))
        self.claims = 0
        self.claimed = asyncio.Event()
        self.expired = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.failures = 0
        self.faults = 0
        self.insert_failures = 0
        self.passed_over = 0

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
        self.claims += 1
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("gone")
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("a bug in the engine")
        # the first grants get nothing where another process has taken the tasks that were meant for them
        tasks = await super().claim(topic, grants[self.passed_over :], max_bytes, abandoned)
        self.claimed.set()
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                if abandoned is not None:
                    abandoned(tasks)
                raise
        return tasks

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        created = await super().insert(tasks)
        if self.insert_failures:
            self.insert_failures -= 1
            raise StorageUnavailable("the answer was lost")
        return created

    async def expire(self, now: datetime) -> int:
        deleted = await super().expire(now)
        self.expired.set()
        return deleted


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    await engine.open()
    yield engine
    await engine.close()


@pytest.fixture
async def service(engine: Engine) -> AsyncIterator[Service]:
    service = Service(engine, Limits(), CollectorRegistry())
    yield service
    service.drain()
    await service.close()


async def insert(service: Service, *ids: str, topic: str = "t", **given: object) -> None:
    inputs = [TaskInput(id=id, topic=topic, **given) for id in ids]  # type: ignore[arg-type]
    await service.insert_tasks(inputs)


async def claim(service: Service, topic: str = "t", **given: object) -> list[Task]:
    return await service.claim_tasks(ClaimRequest(topic=topic, **given))  # type: ignore[arg-type]


async def complete(service: Service, tasks: Sequence[Task]) -> None:
    results = await service.commit_tasks([Commit(id=task.id, nonce=task.nonce) for task in tasks], False)
    assert results == [None] * len(tasks)


def ids(tasks: Sequence[Task]) -> list[str]:
    return [task.id for task in tasks]


async def soon(waiting: Awaitable[T]) -> T:
    """What comes by itself; the limit is for what never comes, and far beyond the stalls of a busy machine."""
    return await asyncio.wait_for(waiting, 30)


async def next_of(stream: Subscription) -> list[Task]:
    return await soon(stream.next())


async def quiet(stream: Subscription) -> bool:
    """Whether a stream has nothing to send, once everything that was begun has had its turn."""
    waiting = asyncio.create_task(stream.next())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    return not done
