"""An engine over a server that answers as a sharded collection would."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ratus.config import MongoDBSettings
from ratus.engines.base import Abandoned
from ratus.engines.mongodb import MongoDBEngine
from ratus.engines.mongodb.fallback import Operation
from ratus.errors import RatusError
from ratus.model import Commit, Grant, Hold, Task
from tests.mongod import Mongod


class ShardedEngine(MongoDBEngine):
    """The server refuses the first write of every kind with a code of sharding."""

    def __init__(self, settings: MongoDBSettings, server: Mongod, code: int) -> None:
        super().__init__(settings)
        self._server = server
        self._app = settings.database
        self._code = code
        self._used: set[Operation] = set()

    @contextmanager
    def _refusing(self, operation: Operation) -> Iterator[None]:
        if operation in self._used:
            yield
            return
        self._used.add(operation)
        self._server.fail(["findAndModify", "update"], errorCode=self._code, appName=self._app)
        try:
            yield
        finally:
            self._server.heal()

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> list[Task]:
        with self._refusing(Operation.CLAIM if len(grants) == 1 else Operation.CLAIMS):
            return await super().claim(topic, grants, max_bytes, abandoned)

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        with self._refusing(Operation.PROMISE):
            return await super().promise(id, grant, force=force)

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        with self._refusing(Operation.COMMIT):
            return await super().commit(commits, payloads=payloads)

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        with self._refusing(Operation.RELEASE):
            return await super().release(holds)

    async def delete_promise(self, id: str, nonce: str) -> str | None:
        with self._refusing(Operation.RELEASE):
            return await super().delete_promise(id, nonce)

    async def upsert(self, tasks: Sequence[Task]) -> list[bool]:
        with self._refusing(Operation.UPSERT):
            return await super().upsert(tasks)
