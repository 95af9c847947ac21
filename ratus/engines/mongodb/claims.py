"""Claims: one task with one find-and-modify, many with a find, a guarded write and a read."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.doubts import Attempt, Doubts
from ratus.engines.mongodb.fallback import Collection, Fallbacks, Modifier, Operation
from ratus.engines.mongodb.guarded import CHUNK, merge_by_id
from ratus.errors import NotFound, TaskNotPending
from ratus.model import Grant, Task

T = TypeVar("T")

_ORDER: Final = (("scheduled", 1),)
_GROWTH: Final = 8  # bytes of JSON that one byte of BSON can become at most, with room to spare


class Claims:
    """Makes promises on tasks."""

    def __init__(self, collection: Collection, fallbacks: Fallbacks, doubts: Doubts) -> None:
        self._collection = collection
        self._fallbacks = fallbacks
        self._modifier = Modifier(collection, fallbacks)
        self._doubts = doubts
        self.hint: str | None = None  # the index that finds due tasks, once it is known to be there

    async def claim(self, topic: str, grants: Sequence[Grant], max_bytes: int) -> list[Task]:
        """Give due tasks to the grants, earliest first, up to so many bytes of payload."""
        if len(grants) == 1:
            return await self._claim_one(topic, grants[0], grants[0].consumed)
        with self._doubts.watch({"topic": topic}, grants) as attempt:
            tasks = await self._claim_many(topic, grants, max_bytes, attempt)
        tasks.sort(key=lambda task: task.scheduled)
        return tasks

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        """Give the named task to the grant; NotFound, TaskNotPending."""
        query: dict[str, Any] = {"_id": id} if force else {"_id": id, "state": 0}
        with self._doubts.watch({"_id": id}, [grant]):
            document = await self._modifier.modify(Operation.PROMISE, query, documents.promised(grant))
        if document is not None:
            return documents.decode(document)
        if not force and await self._collection.find_one({"_id": id}, {"_id": 1}) is not None:
            raise TaskNotPending
        raise NotFound

    async def next_scheduled(self, topic: str) -> datetime | None:
        """The earliest `scheduled` of the pending tasks of a topic."""
        document = await self._hinted(
            lambda hint: self._collection.find_one(
                {"topic": topic, "state": 0}, {"scheduled": 1}, sort=_ORDER, hint=hint
            )
        )
        return None if document is None else documents.moment(document["scheduled"])

    async def _claim_many(self, topic: str, grants: Sequence[Grant], max_bytes: int, attempt: Attempt) -> list[Task]:
        now = grants[0].consumed
        taken: list[Task] = []
        left = list(grants)
        while left:
            wanted = min(len(left), CHUNK)
            found, cut = await self._due(topic, now, wanted, max_bytes, needed=not taken)
            if not found:
                break
            tasks = await self._take(topic, found, left[: len(found)], now, attempt)
            taken += tasks
            max_bytes -= sum(_size(task) for task in tasks)
            used = {task.nonce for task in tasks}
            left = [grant for grant in left if grant.nonce not in used]
            if len(tasks) == len(found) and (cut or len(found) < wanted):
                break  # else others have taken some, so look again
        return taken

    async def _claim_one(self, topic: str, grant: Grant, now: datetime) -> list[Task]:
        with self._doubts.watch({"topic": topic}, [grant]):
            document = await self._hinted(
                lambda hint: self._modifier.modify(
                    Operation.CLAIM, _due(topic, now), documents.promised(grant), sort=_ORDER, hint=hint
                )
            )
        return [] if document is None else [documents.decode(document)]

    async def _due(
        self, topic: str, now: datetime, limit: int, max_bytes: int, *, needed: bool
    ) -> tuple[list[str], bool]:
        """The ids of the next due tasks that fit, in order, and whether some did not; the first fits if needed."""
        found = await self._hinted(
            lambda hint: self._collection.find(
                _due(topic, now), {"size": {"$bsonSize": "$$ROOT"}}, sort=_ORDER, limit=limit, hint=hint
            ).to_list()
        )
        if _GROWTH * sum(document["size"] for document in found) <= max_bytes:
            return [document["_id"] for document in found], False
        return await self._due_exactly(topic, now, limit, max_bytes, needed=needed)

    async def _due_exactly(
        self, topic: str, now: datetime, limit: int, max_bytes: int, *, needed: bool
    ) -> tuple[list[str], bool]:
        ids: list[str] = []
        query = _due(topic, now)
        async with self._collection.find(query, {"payload": 1}, sort=_ORDER, limit=limit, batch_size=16) as cursor:
            async for document in cursor:
                max_bytes -= documents.payload_size(document)
                if max_bytes < 0 and (ids or not needed):
                    return ids, True
                ids.append(document["_id"])
        return ids, False

    async def _take(
        self, topic: str, ids: Sequence[str], grants: Sequence[Grant], now: datetime, attempt: Attempt
    ) -> list[Task]:
        """Give these tasks to as many grants, as far as they are still due; those that were, in order."""
        if not self._fallbacks.active(Operation.CLAIMS):
            try:
                result = await self._collection.update_many(
                    {**_due(topic, now), "_id": {"$in": ids}},
                    merge_by_id(ids, [documents.promised(grant) for grant in grants]),
                    hint="_id_",
                )
            except OperationFailure as error:
                if not self._fallbacks.switch(Operation.CLAIMS, error):
                    raise
            else:
                attempt.written = attempt.written or result.matched_count > 0
                return await self._read_back(ids, grants) if result.matched_count else []
        tasks: list[Task] = []
        for grant in grants:
            tasks += await self._claim_one(topic, grant, now)
            attempt.written = attempt.written or bool(tasks)
        return tasks

    async def _read_back(self, ids: Sequence[str], grants: Sequence[Grant]) -> list[Task]:
        nonces = {id: grant.nonce for id, grant in zip(ids, grants, strict=True)}
        query = {"_id": {"$in": ids}, "nonce": {"$in": list(nonces.values())}}
        found: list[RawBSONDocument] = await self._collection.find(query).to_list()
        tasks = {task.id: task for task in map(documents.decode, found)}
        return [tasks[id] for id in ids if id in tasks and tasks[id].nonce == nonces[id]]

    async def _hinted(self, query: Callable[[str | None], Awaitable[T]]) -> T:
        """Run a query with the hint, and without it for good once the index is not there any more."""
        try:
            return await query(self.hint)
        except OperationFailure as error:
            if self.hint is None or error.code != errors.BAD_HINT:
                raise
        self.hint = None
        return await query(None)


def _due(topic: str, now: datetime) -> dict[str, Any]:
    return {"topic": topic, "state": 0, "scheduled": {"$lte": now}}


def _size(task: Task) -> int:
    return 0 if task.payload is None else len(memoryview(task.payload))
