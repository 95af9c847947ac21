"""Claims: one task with one find-and-modify, many with a find and a guarded write."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from ratus import rules
from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.claimed import Claimed, size
from ratus.engines.mongodb.doubts import Attempt, Doubts
from ratus.engines.mongodb.fallback import Collection, Fallbacks, Modifier, Operation
from ratus.engines.mongodb.guarded import CHUNK, at_id, merge_by_id
from ratus.errors import NotFound, TaskNotPending
from ratus.model import Grant, Task

T = TypeVar("T")
_Found = tuple[RawBSONDocument, Task]  # the same task twice

_ORDER: Final = (("scheduled", 1),)
_ECHOED: Final = 512 * 1024  # bytes of documents that a guard may repeat, so that they need not be read again
_SPARE: Final = 1.5  # times as many documents are asked for as typical ones would fit
_FEWEST: Final = 4  # documents that are asked for at once, however large they are


class Claims:
    """Makes promises on tasks."""

    def __init__(self, collection: Collection, fallbacks: Fallbacks, doubts: Doubts, claimed: Claimed) -> None:
        self._collection = collection
        self._fallbacks = fallbacks
        self._modifier = Modifier(collection, fallbacks)
        self._doubts = doubts
        self._claimed = claimed
        self._typical = 1024.0  # bytes of a document, as the last ones were
        self.hint: str | None = None  # the index that finds due tasks, once it is known to be there

    async def claim(self, topic: str, grants: Sequence[Grant], max_bytes: int) -> list[Task]:
        """Give due tasks to the grants, earliest first, up to so many bytes of payload."""
        if len(grants) == 1:
            tasks = await self._claim_one(topic, grants[0], grants[0].consumed)
        else:
            with self._doubts.watch({"topic": topic}, grants) as attempt:
                tasks = await self._claim_many(topic, grants, max_bytes, attempt)
            tasks.sort(key=lambda task: task.scheduled)
        self._claimed.note(tasks)
        return tasks

    async def promise(self, id: str, grant: Grant, *, force: bool) -> Task:
        """Give the named task to the grant; NotFound, TaskNotPending."""
        query: dict[str, Any] = {"_id": id} if force else {"_id": id, "state": 0}
        with self._doubts.watch({"_id": id}, [grant]):
            document = await self._modifier.modify(Operation.PROMISE, query, documents.promised(grant))
        if document is not None:
            task = documents.decode(document)
            self._claimed.note([task])
            return task
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
            max_bytes -= sum(map(size, tasks))
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
    ) -> tuple[list[_Found], bool]:
        """The next due tasks that fit, in order, and whether some did not; the first fits if needed."""
        return await self._hinted(lambda hint: self._read_due(topic, now, limit, max_bytes, needed=needed, hint=hint))

    async def _read_due(
        self, topic: str, now: datetime, limit: int, max_bytes: int, *, needed: bool, hint: str | None
    ) -> tuple[list[_Found], bool]:
        found: list[_Found] = []
        # As many at once as probably fit, and no more batches after the last one.
        probable = max(_FEWEST, int(_SPARE * max_bytes / self._typical))
        cursor = self._collection.find(
            _due(topic, now), sort=_ORDER, limit=limit, batch_size=min(limit + 1, probable), hint=hint
        )
        async with cursor:
            async for document in cursor:
                task = documents.decode(document)
                max_bytes -= size(task)
                if max_bytes < 0 and (found or not needed):
                    return found, True
                found.append((document, task))
        if found:
            self._typical = _bytes(found) / len(found)
        return found, False

    async def _take(
        self, topic: str, found: Sequence[_Found], grants: Sequence[Grant], now: datetime, attempt: Attempt
    ) -> list[Task]:
        """Give these tasks to as many grants, as far as they are still due; those that were, in order."""
        if not self._fallbacks.active(Operation.CLAIMS):
            ids = [task.id for _, task in found]
            query = {**_due(topic, now), "_id": {"$in": ids}}
            as_found = _bytes(found) <= _ECHOED
            if as_found:
                query["$expr"] = {"$eq": ["$$ROOT", at_id(ids, [document for document, _ in found])]}
            promises = merge_by_id(ids, [documents.promised(grant) for grant in grants])
            try:
                count = (await self._collection.update_many(query, promises, hint="_id_")).matched_count
            except OperationFailure as error:
                if not self._fallbacks.switch(Operation.CLAIMS, error):
                    raise
            else:
                attempt.written = attempt.written or count > 0
                if as_found and count == len(found):
                    return [rules.claimed(task, grant) for (_, task), grant in zip(found, grants, strict=True)]
                return await self._read_back(ids, grants) if count else []
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


def _bytes(found: Sequence[_Found]) -> int:
    return sum(len(document.raw) for document, _ in found)
