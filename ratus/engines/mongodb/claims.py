"""Claims: one task with one find-and-modify, many with a find and a guarded write, also of several topics."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from msgspec import structs
from pymongo.errors import OperationFailure

from ratus import rules
from ratus.engines.mongodb import documents, due
from ratus.engines.mongodb.claimed import Claimed, size
from ratus.engines.mongodb.doubts import Attempt, Doubts
from ratus.engines.mongodb.due import Due, Found, total_bytes
from ratus.engines.mongodb.fallback import Collection, Fallbacks, Modifier, Operation
from ratus.engines.mongodb.floors import Floors
from ratus.engines.mongodb.guarded import CHUNK, at_id, merge_by_id
from ratus.errors import NotFound, TaskNotPending
from ratus.model import Grant, Task

_ECHOED: Final = 512 * 1024  # bytes of documents that a guard may repeat, so that they need not be read again


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is claimed of a topic: a task for each grant of those that are due by then, up to some bytes of payload.

    One task always fits.
    """

    topic: str
    grants: Sequence[Grant]
    by: datetime
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tasks that were claimed, earliest first, and whether more may be due, though there were grants for them."""

    tasks: list[Task]
    cut: bool = False


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
        self.due = Due(collection, floors)

    async def claim(self, wanted: Sequence[Wanted]) -> list[Outcome | BaseException]:
        """Give due tasks of different topics to the grants; what has come of it for each topic."""
        for each in wanted:
            self.due.look_below(each.topic)
        outcomes: list[Outcome | BaseException] | None
        if len(wanted) == 1:
            outcomes = [await self._claim_topic(wanted[0])]
        elif (outcomes := await self._claim_united(wanted)) is None:
            outcomes = await asyncio.gather(*map(self._claim_topic, wanted), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Outcome):
                self._claimed.note(outcome.tasks)
        return outcomes

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

    async def _claim_topic(self, wanted: Wanted) -> Outcome:
        if len(wanted.grants) == 1:
            return Outcome(await self._claim_one(wanted.topic, wanted.grants[0], wanted.by))
        with self._doubts.watch({"topic": wanted.topic}, wanted.grants) as attempt:
            outcome = await self._claim_many(wanted, attempt)
        outcome.tasks.sort(key=lambda task: task.scheduled)
        return outcome

    async def _claim_one(self, topic: str, grant: Grant, by: datetime) -> list[Task]:
        async def modify(begin: datetime | None) -> RawBSONDocument | None:
            return await self.due.hinted(
                lambda hint: self._modifier.modify(
                    Operation.CLAIM, due.query(topic, by, begin), documents.promised(grant), sort=due.ORDER, hint=hint
                )
            )

        with self._doubts.watch({"topic": topic}, [grant]):
            floor = self._floors.of(topic)
            lowered = floor.lowered
            document = await self.due.from_floor(floor, by, modify)
        if document is None:
            return []
        self.due.note_size(len(document.raw))
        task = documents.decode(document)
        floor.lift(task.scheduled, lowered)
        return [task]

    async def _claim_many(self, wanted: Wanted, attempt: Attempt) -> Outcome:
        floor = self._floors.of(wanted.topic)
        taken: list[Task] = []
        left, max_bytes = list(wanted.grants), wanted.max_bytes
        while left:
            limit = min(len(left), CHUNK)
            lowered = floor.lowered
            found, cut = await self.due.find(wanted.topic, wanted.by, limit, max_bytes, needed=not taken)
            if not found:
                return Outcome(taken, cut)
            where = due.query(wanted.topic, wanted.by)
            tasks = await self._take(where, found, left[: len(found)], attempt)
            if tasks is None:
                tasks = await self._take_singly(wanted, left[: len(found)], attempt)
            taken += tasks
            max_bytes -= sum(map(size, tasks))
            used = {task.nonce for task in tasks}
            left = [grant for grant in left if grant.nonce not in used]
            if len(tasks) < len(found):
                continue  # others have changed some, so look again
            floor.lift(found[-1][1].scheduled, lowered)
            if cut or len(found) < limit:
                return Outcome(taken, cut)
        return Outcome(taken)

    async def _claim_united(self, wanted: Sequence[Wanted]) -> list[Outcome | BaseException] | None:
        """The same for all topics at once; None if it has to be done for each by itself."""
        if self._fallbacks.active(Operation.CLAIMS):
            return None
        by = max(each.by for each in wanted)
        floors = [self._floors.of(each.topic) for each in wanted]
        lowered = [floor.lowered for floor in floors]
        found = await self.due.find_in_topics({each.topic: len(each.grants) for each in wanted}, by, _ECHOED)
        if found is None:
            return None
        pairs = [pair for each in wanted for pair in zip(found[each.topic], each.grants, strict=False)]
        taken: dict[str, list[Task]] = {each.topic: [] for each in wanted}
        if pairs:
            grants = [grant for _, grant in pairs]
            with self._doubts.watch({"topic": {"$in": list(taken)}}, grants) as attempt:
                where = {"state": 0, "scheduled": {"$lte": by}}
                tasks = await self._take(where, [found for found, _ in pairs], grants, attempt)
            if tasks is None:
                return None
            for task in tasks:
                taken[task.topic].append(task)
        for each, floor, seen in zip(wanted, floors, lowered, strict=True):
            tasks = taken[each.topic]
            if tasks and len(tasks) == len(found[each.topic]):
                floor.lift(tasks[-1].scheduled, seen)
        return await asyncio.gather(
            *(self._completed(each, taken[each.topic], len(found[each.topic])) for each in wanted),
            return_exceptions=True,
        )

    async def _completed(self, wanted: Wanted, tasks: list[Task], found: int) -> Outcome:
        """What was taken of what was found; where others came between, what is due still is claimed by itself."""
        if len(tasks) == found:
            return Outcome(tasks)
        used = {task.nonce for task in tasks}
        left = [grant for grant in wanted.grants if grant.nonce not in used]
        try:
            more = await self._claim_topic(replace(wanted, grants=left))
        except Exception:
            if not tasks:
                raise
            return Outcome(tasks, cut=True)
        return Outcome(sorted([*tasks, *more.tasks], key=lambda task: task.scheduled), more.cut)

    async def _take(
        self, where: Mapping[str, Any], found: Sequence[Found], grants: Sequence[Grant], attempt: Attempt
    ) -> list[Task] | None:
        """Give these tasks to as many grants, as far as they still are so; those that were, in order.

        None if that has to be done one by one.
        """
        if self._fallbacks.active(Operation.CLAIMS):
            return None
        grants = [rules.stamped(grant, task) for grant, (_, task) in zip(grants, found, strict=True)]
        ids = [task.id for _, task in found]
        query = {**where, "_id": {"$in": ids}}
        as_found = total_bytes(found) <= _ECHOED
        if as_found:
            query["$expr"] = {"$eq": ["$$ROOT", at_id(ids, [document for document, _ in found])]}
        promises = merge_by_id(ids, [documents.promised(grant) for grant in grants])
        try:
            count = (await self._collection.update_many(query, promises, hint="_id_")).matched_count
        except OperationFailure as error:
            if not self._fallbacks.switch(Operation.CLAIMS, error):
                raise
            return None
        attempt.written = attempt.written or count > 0
        if as_found and count == len(found):
            return [rules.claimed(task, grant) for (_, task), grant in zip(found, grants, strict=True)]
        return await self._read_back(ids, grants) if count else []

    async def _take_singly(self, wanted: Wanted, grants: Sequence[Grant], attempt: Attempt) -> list[Task]:
        tasks: list[Task] = []
        for grant in grants:
            late = structs.replace(grant, consumed=wanted.by)  # so that it is not made before its task was due
            tasks += await self._claim_one(wanted.topic, late, wanted.by)
            attempt.written = attempt.written or bool(tasks)
        return tasks

    async def _read_back(self, ids: Sequence[str], grants: Sequence[Grant]) -> list[Task]:
        nonces = {id: grant.nonce for id, grant in zip(ids, grants, strict=True)}
        query = {"_id": {"$in": ids}, "nonce": {"$in": list(nonces.values())}}
        found: list[RawBSONDocument] = await self._collection.find(query).to_list()
        tasks = {task.id: task for task in map(documents.decode, found)}
        return [tasks[id] for id in ids if id in tasks and tasks[id].nonce == nonces[id]]
