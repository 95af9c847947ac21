"""Engines with a fault each, which the checker must find."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec

from ratus.config import SQLiteSettings
from ratus.engines.base import Abandoned
from ratus.engines.sqlite import SQLiteEngine
from ratus.errors import NonceMismatch, NotFound, RatusError
from ratus.model import Commit, Grant, Task, TaskState

EVERY = 10  # one of so many calls is done wrongly
UNDONE_SECONDS = 0.2


class Faulty(SQLiteEngine):
    """In memory; `wrong` tells when to do it wrongly, and `planted` how often that was done."""

    def __init__(self) -> None:
        super().__init__(SQLiteSettings(path=None))
        self._count = self.planted = 0

    def wrong(self) -> bool:
        self._count += 1
        wrong = self._count % EVERY == 0
        self.planted += wrong
        return wrong


class Forgets(Faulty):
    """Acknowledges inserts that it does not store."""

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        return [True for _ in tasks] if self.wrong() else await super().insert(tasks)


class HandsOutTwice(Faulty):
    """Makes tasks pending that were handed out."""

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
        tasks = await super().claim(topic, grants, max_bytes, abandoned)
        if tasks and self.wrong():
            await super().delete_promise(tasks[0].id, "")
        return tasks


class IgnoresNonces(Faulty):
    """Applies every commit."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        for one in commits:
            self.planted += one.nonce in self._seen  # only a second commit is wrong to apply
            self._seen.add(one.nonce)
        return await super().commit([msgspec.structs.replace(one, nonce="") for one in commits])


class Undoes(Faulty):
    """Puts a task that was completed back as it was handed out, a little later."""

    def __init__(self) -> None:
        super().__init__()
        self._undoing: set[asyncio.Task[object]] = set()

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        before = [await self._found(one.id) for one in commits]
        results = await super().commit(commits)
        for task, result in zip(before, results, strict=True):
            if task is not None and isinstance(result, Task) and self.wrong():
                undo = asyncio.create_task(self._undo(msgspec.structs.replace(task, state=TaskState.PENDING, nonce="")))
                self._undoing.add(undo)
        return results

    async def _found(self, id: str) -> Task | None:
        try:
            return await super().get(id)
        except NotFound:
            return None

    async def _undo(self, task: Task) -> None:
        await asyncio.sleep(UNDONE_SECONDS)
        await super().upsert([task])

    async def settle(self) -> None:
        """Return when all is undone that is to be."""
        await asyncio.gather(*self._undoing)


class IsEarly(Faulty):
    """Hands out tasks before their time."""

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
        self.planted += 1
        ahead = timedelta(seconds=0.5)
        early = [msgspec.structs.replace(one, consumed=one.consumed + ahead) for one in grants]
        return await super().claim(topic, early, max_bytes)


class Refuses(Faulty):
    """Forgets promises: refuses a commit whose promise holds."""

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        if self.wrong():
            return [NonceMismatch() for _ in commits]
        return await super().commit(commits)


class CompletesByItself(Faulty):
    """Completes a task that nobody has claimed."""

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        if self.wrong():
            return await super().insert([msgspec.structs.replace(one, state=TaskState.COMPLETED) for one in tasks])
        return await super().insert(tasks)
