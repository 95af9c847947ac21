"""Claims: one task with one find-and-modify, many with a find and a guarded write."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, PyMongoError

from ratus import rules
from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.claimed import Claimed, size
from ratus.engines.mongodb.doubts import Attempt, Doubts
from ratus.engines.mongodb.fallback import Collection, Fallbacks, Modifier, Operation
from ratus.engines.mongodb.floors import Floor, Floors
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

    def __init__(
        self, collection: Collection, fallbacks: Fallbacks, doubts: Doubts, claimed: Claimed, floors: Floors
    ) -> None:
        self._collection = collection
        self._fallbacks = fallbacks
        self._modifier = Modifier(collection, fallbacks)
        self._doubts = doubts
        self._claimed = claimed
        self._floors = floors
        self._looks: set[asyncio.Task[None]] = set()
        self._typical = 1024.0  # bytes of a document, as the last ones were
        self.hint: str | None = None  # the index that finds due tasks, once it is known to be there

    async def claim(self, topic: str, grants: Sequence[Grant], max_bytes: int) -> list[Task]:
        """Give due tasks to the grants, earliest first, up to so many bytes of payload."""
        floor = self._floors.of(topic)
        if floor.wants_look:
            floor.next_look = math.inf
            look = asyncio.create_task(self._look_below(topic, floor))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
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

    async def next_scheduled(self, topic: str, before: datetime | None = None) -> datetime | None:
        """The earliest `scheduled` of the pending tasks of a topic, of those before a time if one is given."""
        query: dict[str, Any] = {"topic": topic, "state": 0}
        if before is not None:
            query["scheduled"] = {"$lt": before}
        document = await self._hinted(
            lambda hint: self._collection.find_one(query, {"scheduled": 1}, sort=_ORDER, hint=hint)
        )
        return None if document is None else documents.moment(document["scheduled"])

    async def close(self) -> None:
        """Wait for what is under way in the background."""
        if self._looks:
            await asyncio.wait(self._looks)

    async def _look_below(self, topic: str, floor: Floor) -> None:
        """Find out whether others have made something pending below the floor."""
        begin = time.monotonic()
        try:
            earliest = await self.next_scheduled(topic, floor.at)
        except PyMongoError as error:
            if not errors.is_unavailable(error):
                raise
        else:
            if earliest is not None:
                floor.lower(earliest)
        finally:
            floor.looked(time.monotonic() - begin)

    async def _claim_many(self, topic: str, grants: Sequence[Grant], max_bytes: int, attempt: Attempt) -> list[Task]:
        now, floor = grants[0].consumed, self._floors.of(topic)
        taken: list[Task] = []
        left = list(grants)
        while left:
            wanted = min(len(left), CHUNK)
            lowered = floor.lowered
            found, cut = await self._due(topic, now, wanted, max_bytes, needed=not taken)
            if not found:
                break
            tasks = await self._take(topic, found, left[: len(found)], now, attempt)
            taken += tasks
            max_bytes -= sum(map(size, tasks))
            used = {task.nonce for task in tasks}
            left = [grant for grant in left if grant.nonce not in used]
            if len(tasks) < len(found):
                continue  # others have changed some, so look again
            floor.lift(found[-1][1].scheduled, lowered)
            if cut or len(found) < wanted:
                break
        return taken

    async def _claim_one(self, topic: str, grant: Grant, now: datetime) -> list[Task]:
        async def modify(begin: datetime | None) -> RawBSONDocument | None:
            return await self._hinted(
                lambda hint: self._modifier.modify(
                    Operation.CLAIM, _due(topic, now, begin), documents.promised(grant), sort=_ORDER, hint=hint
                )
            )

        with self._doubts.watch({"topic": topic}, [grant]):
            floor = self._floors.of(topic)
            lowered = floor.lowered
            document = await self._from(floor, now, modify)
        if document is None:
            return []
        task = documents.decode(document)
        floor.lift(task.scheduled, lowered)
        return [task]

    async def _due(
        self, topic: str, now: datetime, limit: int, max_bytes: int, *, needed: bool
    ) -> tuple[list[_Found], bool]:
        """The next due tasks that fit, in order, and whether some did not; the first fits if needed."""
        cut = False

        async def read(begin: datetime | None) -> list[_Found]:
            nonlocal cut
            found, cut = await self._hinted(
                lambda hint: self._read(_due(topic, now, begin), limit, max_bytes, needed=needed, hint=hint)
            )
            return found

        floor = self._floors.of(topic)
        found = await self._from(floor, now, read) if needed else await read(floor.at)
        return found, cut

    async def _from(self, floor: Floor, now: datetime, read: Callable[[datetime | None], Awaitable[T]]) -> T:
        """What is found from the floor on, and if that is nothing, what is found at all."""
        if floor.at is not None and (found := await read(floor.at)):
            return found
        begin, lowered = time.monotonic(), floor.lowered
        found = await read(None)
        floor.looked(time.monotonic() - begin)
        if not found:
            floor.lift(now, lowered)
        return found

    async def _read(
        self, query: Mapping[str, Any], limit: int, max_bytes: int, *, needed: bool, hint: str | None
    ) -> tuple[list[_Found], bool]:
        found: list[_Found] = []
        cut = False
        # As many at once as probably fit, and no more batches after the last one.
        probable = max(_FEWEST, int(_SPARE * max_bytes / self._typical))
        async with self._collection.find(
            query, sort=_ORDER, limit=limit, batch_size=min(limit + 1, probable), hint=hint
        ) as cursor:
            async for document in cursor:
                task = documents.decode(document)
                max_bytes -= size(task)
                cut = max_bytes < 0 and (bool(found) or not needed)
                if cut:
                    break
                found.append((document, task))
        if found:
            self._typical = _bytes(found) / len(found)
        return found, cut

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


def _due(topic: str, now: datetime, begin: datetime | None = None) -> dict[str, Any]:
    scheduled = {"$lte": now} if begin is None else {"$gte": begin, "$lte": now}
    return {"topic": topic, "state": 0, "scheduled": scheduled}


def _bytes(found: Sequence[_Found]) -> int:
    return sum(len(document.raw) for document, _ in found)
