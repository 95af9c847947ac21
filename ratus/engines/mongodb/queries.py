"""Reading tasks and topics, and deleting them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ratus.engines.mongodb import documents
from ratus.engines.mongodb.counts import Counts
from ratus.engines.mongodb.fallback import Collection
from ratus.engines.mongodb.indexes import TOPIC_INDEX
from ratus.errors import NotFound
from ratus.model import Task, Topic, TopicStats

_LAST: Final = "\U0010ffff"  # comes after whatever a name goes on with
_DUE_SCANNED: Final = 10_000  # tasks
_COUNTS: Final = 8  # at once
_PIECE: Final = 2_000  # tasks that are deleted at once


class Queries:
    """Finds and deletes."""

    def __init__(self, collection: Collection, counts: Counts) -> None:
        self._collection = collection
        self._counts = counts

    async def get(self, id: str) -> Task:
        """The task; NotFound."""
        return await self._get({"_id": id})

    async def get_promise(self, id: str) -> Task:
        """The task if it is active; NotFound."""
        return await self._get({"_id": id, "state": 1})

    async def _get(self, query: Mapping[str, Any]) -> Task:
        document = await self._collection.find_one(query)
        if document is None:
            raise NotFound
        return documents.decode(document)

    async def list_tasks(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        """Tasks of a topic, or of all for an empty one, in order of id.

        The tasks of a small topic are all looked at and sorted. In a large one the next is never far in the index of
        ids. So a page looks at no more than about √(page × all tasks), whatever the mix.
        """
        if not topic or limit <= 0:
            return await self._list({}, None, after, skip, limit)
        small = await self._counts.is_small(topic, skip + limit)
        hint = None if small is None else TOPIC_INDEX if small else "_id_"
        return await self._list({"topic": topic}, None, after, skip, limit, hint)

    async def list_promises(self, topic: str, after: str, skip: int, limit: int) -> list[Task]:
        """Active tasks in order of id, without their payloads."""
        query = {"topic": topic, "state": 1} if topic else {"state": 1}
        return await self._list(query, documents.NO_PAYLOAD, after, skip, limit)

    async def _list(
        self,
        query: Mapping[str, Any],
        projection: Mapping[str, Any] | None,
        after: str,
        skip: int,
        limit: int,
        hint: str | None = None,
    ) -> list[Task]:
        if limit <= 0:
            return []  # to MongoDB this means no limit
        cursor = self._collection.find(
            {**query, "_id": {"$gt": after}}, projection, sort=(("_id", 1),), skip=skip, limit=limit, hint=hint
        )
        return [documents.decode(document) async for document in cursor]

    async def requested(self, request: str) -> list[tuple[str, Task]]:
        """Active tasks whose grants had a request that begins so, by `scheduled`, each with the whole request."""
        query = {"state": 1, "request.name": {"$gte": request, "$lt": request + _LAST}}
        cursor = self._collection.find(query, sort=(("scheduled", 1),))
        found = [(document["request"], documents.decode(document)) async for document in cursor]
        return [(granted["name"], task) for granted, task in found if granted["nonce"] == task.nonce]

    async def due_topics(self, topics: Sequence[str], now: datetime) -> list[str]:
        """Those of the topics that have a due task; perhaps not all where very many tasks are due."""
        cursor = await self._collection.aggregate(
            [
                {"$match": {"topic": {"$in": list(topics)}, "state": 0, "scheduled": {"$lte": now}}},
                {"$limit": _DUE_SCANNED},
                {"$group": {"_id": "$topic"}},
            ]
        )
        return [document["_id"] async for document in cursor]

    async def list_topics(self, after: str, skip: int, limit: int) -> list[Topic]:
        """Topics that have tasks, in order of name."""
        if limit <= 0:
            return []
        cursor = await self._collection.aggregate(
            [
                {"$match": {"topic": {"$gt": after}}},
                {"$group": {"_id": "$topic"}},
                {"$sort": {"_id": 1}},
                {"$skip": skip},
                {"$limit": limit},
            ],
            allowDiskUse=True,
        )
        names = [document["_id"] async for document in cursor]
        at_once = asyncio.Semaphore(_COUNTS)

        async def topic(name: str) -> Topic:
            async with at_once:
                return Topic(name, await self._counts.tasks(name))

        found = await asyncio.gather(*map(topic, names))
        return [topic for topic in found if topic.count]

    async def get_topic(self, topic: str) -> Topic:
        """The topic; NotFound if it has no tasks."""
        count = await self._counts.tasks(topic)
        if not count:
            raise NotFound
        return Topic(topic, count)

    async def get_stats(self, topic: str, now: datetime) -> TopicStats:
        """Counts and times of a topic."""
        return await self._counts.stats(topic, now)

    async def delete(self, id: str) -> int:
        """Delete a task; the number of deleted tasks."""
        return (await self._collection.delete_one({"_id": id})).deleted_count

    async def delete_tasks(self, topic: str, state: int | None) -> int:
        """Delete the tasks of a topic, in one state or in any; the number of deleted tasks."""
        return await self._delete_many({"topic": topic} if state is None else {"topic": topic, "state": state})

    async def delete_topics(self) -> int:
        """Delete all tasks; their number."""
        return await self._delete_many({})

    async def _delete_many(self, query: Mapping[str, Any]) -> int:
        """Delete in pieces, between which others come to their turn and members of a replica set keep up."""
        # Not repeated after a lost connection: the number would be wrong.
        deleted = 0
        async with self._collection.find(query, {"_id": 1}, batch_size=_PIECE) as cursor:
            while piece := await cursor.to_list(_PIECE):
                ids = [document["_id"] for document in piece]
                deleted += (await self._collection.delete_many({**query, "_id": {"$in": ids}})).deleted_count
        return deleted
