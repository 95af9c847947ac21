"""Numbers of tasks. With our indexes, completed and archived ones are counted without reading them."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from pymongo.errors import OperationFailure

from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.fallback import Collection
from ratus.engines.mongodb.indexes import ACTIVE_INDEX, ARCHIVED_INDEX, CLAIM_INDEX, TOPIC_INDEX
from ratus.model import TaskState, TopicStats

T = TypeVar("T")


class Counts:
    """Counts the tasks of a topic, in all and by state."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.indexed = False  # whether all the indexes are known to be there

    async def tasks(self, topic: str) -> int:
        """The number of its tasks."""
        return await self._either(
            lambda: self._count({"topic": topic}, TOPIC_INDEX), lambda: self._count({"topic": topic}, None)
        )

    async def is_small(self, topic: str, page: int) -> bool | None:
        """Whether a page of so many tasks is found faster by sorting all tasks of the topic than by walking the ids.

        None if that is up to the server, as not all indexes are there.
        """

        async def compare() -> bool:
            bound = math.isqrt(page * await self._collection.estimated_document_count())
            return await self._count({"topic": topic}, TOPIC_INDEX, limit=bound + 1) <= bound

        async def unknown() -> None:
            return None

        return await self._either(compare, unknown)

    async def stats(self, topic: str, now: datetime) -> TopicStats:
        """Counts and times, which are taken one beside the other while others work."""
        return await self._either(lambda: self._stats(topic, now), lambda: self._stats_by_reading(topic, now))

    async def _either(self, indexed: Callable[[], Awaitable[T]], plain: Callable[[], Awaitable[T]]) -> T:
        """The first way while the indexes are there, and the other for good once one is gone."""
        if self.indexed:
            try:
                return await indexed()
            except OperationFailure as error:
                if error.code != errors.BAD_HINT:
                    raise
            self.indexed = False
        return await plain()

    async def _count(self, query: dict[str, Any], hint: str | None, **options: Any) -> int:
        if hint is not None:
            options["hint"] = hint
        return await self._collection.count_documents(query, **options)

    async def _stats(self, topic: str, now: datetime) -> TopicStats:
        pending = {"topic": topic, "state": TaskState.PENDING.value}
        due = {"$sum": {"$cond": [{"$lte": ["$scheduled", now]}, 1, 0]}}
        group = {"$group": {"_id": None, "count": {"$sum": 1}, "due": due}}
        cursor, active, archived, total, oldest, next_scheduled = await asyncio.gather(
            self._collection.aggregate([{"$match": pending}, group], hint=CLAIM_INDEX),
            self._count({"topic": topic, "state": TaskState.ACTIVE.value}, ACTIVE_INDEX),
            self._count({"topic": topic, "state": TaskState.ARCHIVED.value}, ARCHIVED_INDEX),
            self._count({"topic": topic}, TOPIC_INDEX),
            self._first({**pending, "scheduled": {"$lte": now}}),
            self._first({**pending, "scheduled": {"$gt": now}}),
        )
        stats = TopicStats(active=active, archived=archived, oldest_due=oldest, next_scheduled=next_scheduled)
        async for found in cursor:
            stats.pending, stats.due = int(found["count"]), int(found["due"])
        stats.completed = max(0, total - stats.pending - active - archived)
        return stats

    async def _first(self, query: dict[str, Any]) -> datetime | None:
        document = await self._collection.find_one(query, {"scheduled": 1}, sort=(("scheduled", 1),), hint=CLAIM_INDEX)
        return None if document is None else documents.moment(document["scheduled"])

    async def _stats_by_reading(self, topic: str, now: datetime) -> TopicStats:
        scheduled = "$scheduled"
        cursor = await self._collection.aggregate(
            [
                {"$match": {"topic": topic}},
                {
                    "$group": {
                        "_id": "$state",
                        "count": {"$sum": 1},
                        "due": {"$sum": {"$cond": [{"$lte": [scheduled, now]}, 1, 0]}},
                        "first": {"$min": scheduled},
                        "next": {"$min": {"$cond": [{"$gt": [scheduled, now]}, scheduled, None]}},
                    }
                },
            ]
        )
        stats = TopicStats()
        async for raw in cursor:
            group = documents.fields(raw)
            count = int(group["count"])
            match group["_id"]:
                case TaskState.PENDING:
                    stats.pending, stats.due = count, int(group["due"])
                    stats.oldest_due = documents.moment(group["first"]) if stats.due else None
                    stats.next_scheduled = documents.moment(group["next"])
                case TaskState.ACTIVE:
                    stats.active = count
                case TaskState.COMPLETED:
                    stats.completed = count
                case TaskState.ARCHIVED:
                    stats.archived = count
        return stats
