"""An engine over a server that answers as a sharded collection would."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.errors import RatusError
from ratus.model import Commit, Grant, Hold, Task
from tests.mongod import Mongod


class ShardedEngine(MongoDBEngine):
    """The server refuses the first write of every kind, for one task and for many, with a code of sharding."""

    def __init__(self, settings: MongoDBSettings, server: Mongod, code: int) -> None:
        super().__init__(settings)
        self._server = server
        self._app = settings.database
        self._code = code
        self._used: set[tuple[str, bool]] = set()

    @contextmanager
    def _refusing(self, kind: str, entries: int = 1) -> Iterator[None]:
        if (kind, entries == 1) in self._used:
            yield
            return
        self._used.add((kind, entries == 1))
        self._server.fail(["findAndModify", "update"], errorCode=self._code, appName=self._app)
        try:
            yield
        finally:
            self._server.heal()

    async def claim(self, topic: str, grants: Sequence[Grant], max_bytes: int) -> list[Task]:
        with self._refusing("claim", len(grants)):
            return await super().claim(topic, grants, max_bytes)

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        with self._refusing("promise"):
            return await super().promise(id, grant, force=force)

    async def commit(self, commits: Sequence[Commit]) -> list[Task | RatusError]:
        with self._refusing("commit", len(commits)):
            return await super().commit(commits)

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        with self._refusing("release", len(holds)):
            return await super().release(holds)

    async def delete_promise(self, id: str, nonce: str) -> str | None:
        with self._refusing("delete_promise"):
            return await super().delete_promise(id, nonce)

    async def upsert(self, tasks: Sequence[Task]) -> list[bool]:
        with self._refusing("upsert", len(tasks)):
            return await super().upsert(tasks)
