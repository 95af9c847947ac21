"""Due tasks, looked for from the floors of their topics on."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, PyMongoError

from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.claimed import size
from ratus.engines.mongodb.fallback import Collection
from ratus.engines.mongodb.floors import Floor, Floors
from ratus.model import Task

T = TypeVar("T")
Found = tuple[RawBSONDocument, Task]  # the same task twice

ORDER: Final = (("scheduled", 1),)
_SPARE: Final = 1.5  # times as many documents are asked for as typical ones would fit
_FEWEST: Final = 4  # documents that are asked for at once, however large they are
_MEMORY: Final = 8  # documents that were read one by one, of which the typical one is made up
_UNITED_AGAIN: Final = 300.0  # seconds after which a server is asked again for what it did not know

_log = logging.getLogger(__name__)


class Due:
    """Finds due tasks, earliest first."""

    def __init__(self, collection: Collection, floors: Floors) -> None:
        self._collection = collection
        self._floors = floors
        self._looks: set[asyncio.Task[None]] = set()
        self._typical = 1024.0  # bytes of a document, as the last ones were
        self._unites_at = 0.0  # when the server is asked for several topics at once, on the monotonic clock
        self.hint: str | None = None  # the index that finds them, once it is known to be there

    async def close(self) -> None:
        """Wait for what is under way in the background."""
        if self._looks:
            await asyncio.wait(self._looks)

    async def next_scheduled(self, topic: str, before: datetime | None = None) -> datetime | None:
        """The earliest `scheduled` of the pending tasks of a topic, of those before a time if one is given."""
        query: dict[str, Any] = {"topic": topic, "state": 0}
        if before is not None:
            query["scheduled"] = {"$lt": before}
        document = await self.hinted(
            lambda hint: self._collection.find_one(query, {"scheduled": 1}, sort=ORDER, hint=hint)
        )
        return None if document is None else documents.moment(document["scheduled"])

    def look_below(self, topic: str) -> None:
        """If it is time, find out in the background whether others have made something pending below the floor."""
        floor = self._floors.of(topic)
        if floor.wants_look:
            floor.next_look = math.inf
            look = asyncio.create_task(self._look_below(topic, floor))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _look_below(self, topic: str, floor: Floor) -> None:
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

    async def find(
        self, topic: str, now: datetime, limit: int, max_bytes: int, *, needed: bool
    ) -> tuple[list[Found], bool]:
        """The next due tasks that fit, and whether some did not; the first fits if it is needed."""
        cut = False

        async def read(begin: datetime | None) -> list[Found]:
            nonlocal cut
            found, cut = await self.hinted(
                lambda hint: self._read(query(topic, now, begin), limit, max_bytes, needed=needed, hint=hint)
            )
            return found

        floor = self._floors.of(topic)
        found = await self.from_floor(floor, now, read) if needed else await read(floor.at)
        return found, cut

    async def from_floor(self, floor: Floor, now: datetime, read: Callable[[datetime | None], Awaitable[T]]) -> T:
        """What is found from the floor on, and if that is nothing, what is found at all."""
        if floor.at is not None and (found := await read(floor.at)):
            return found
        begin, lowered = time.monotonic(), floor.lowered
        found = await read(None)
        floor.looked(time.monotonic() - begin)
        if not found:
            floor.lift(now, lowered)
        return found

    async def find_in_topics(
        self, limits: Mapping[str, int], now: datetime, max_bytes: int
    ) -> dict[str, list[Found]] | None:
        """Due tasks of several topics, up to a number for each; None if each has to be looked at by itself.

        So it has where there are more bytes of documents, on sharded clusters, whose updates may count what a shard has
        left behind, and on servers that do not know how. A topic of which nothing was found has none that is due.
        """
        sharded = self._collection.database.client.topology_description.topology_type_name == "Sharded"
        if sharded or time.monotonic() < self._unites_at or self._typical * len(limits) > max_bytes:
            return None
        try:
            found = await self._read_topics(limits, now, max_bytes)
            below = {} if found is None else {topic: limit for topic, limit in limits.items() if topic not in found}
            if found is None or not below:
                return found
            more = await self._read_topics(below, now, max_bytes, below_floor=True)
        except OperationFailure as error:
            if errors.is_unavailable(error):
                raise
            _log.info("MongoDB: claims look at one topic at a time for now: %s", errors.line(error))
            self._unites_at = time.monotonic() + _UNITED_AGAIN
            return None
        return None if more is None else found | more

    async def _read_topics(
        self, limits: Mapping[str, int], now: datetime, max_bytes: int, *, below_floor: bool = False
    ) -> dict[str, list[Found]] | None:
        """The same, without topics that have nothing from their floor on but may have something below it."""
        floors = {topic: self._floors.of(topic) for topic in limits}
        lowered = {topic: floor.lowered for topic, floor in floors.items()}
        begins = {topic: None if below_floor else floor.at for topic, floor in floors.items()}
        parts: list[list[dict[str, Any]]] = [
            [{"$match": query(topic, now, begins[topic])}, {"$sort": dict(ORDER)}, {"$limit": limit}]
            for topic, limit in limits.items()
        ]
        united = [{"$unionWith": {"coll": self._collection.name, "pipeline": part}} for part in parts[1:]]
        at_once = self._at_once(sum(limits.values()), max_bytes)

        async def read(hint: str | None) -> tuple[list[RawBSONDocument], int]:
            options: dict[str, Any] = {"batchSize": at_once} | ({} if hint is None else {"hint": hint})
            read, total = list[RawBSONDocument](), 0
            async with await self._collection.aggregate([*parts[0], *united], **options) as cursor:
                async for document in cursor:
                    read.append(document)
                    total += len(document.raw)
                    if total > max_bytes:
                        break
            return read, total

        begin = time.monotonic()
        read_documents, total = await self.hinted(read)
        if read_documents:
            self._typical = total / len(read_documents)
        if total > max_bytes:
            return None
        found: dict[str, list[Found]] = {}
        for document in read_documents:
            task = documents.decode(document)
            found.setdefault(task.topic, []).append((document, task))
        for topic, floor in floors.items():
            if begins[topic] is None:
                floor.looked(time.monotonic() - begin)
                if topic not in found:
                    floor.lift(now, lowered[topic])
                    found[topic] = []
        return found

    async def _read(
        self, query: Mapping[str, Any], limit: int, max_bytes: int, *, needed: bool, hint: str | None
    ) -> tuple[list[Found], bool]:
        found: list[Found] = []
        cut = False
        async with self._collection.find(
            query, sort=ORDER, limit=limit, batch_size=self._at_once(limit, max_bytes), hint=hint
        ) as cursor:
            async for document in cursor:
                task = documents.decode(document)
                max_bytes -= size(task)
                cut = max_bytes < 0 and (bool(found) or not needed)
                if cut:
                    break
                found.append((document, task))
        if found:
            self._typical = total_bytes(found) / len(found)
        return found, cut

    def _at_once(self, limit: int, max_bytes: int) -> int:
        """As many documents as probably fit, and no more batches after the last one."""
        return min(limit + 1, max(_FEWEST, int(_SPARE * max_bytes / self._typical)))

    def note_size(self, size: int) -> None:
        """A document was read that has so many bytes."""
        self._typical += (size - self._typical) / _MEMORY

    async def hinted(self, query: Callable[[str | None], Awaitable[T]]) -> T:
        """Run a query with the hint, and without it for good once the index is not there any more."""
        try:
            return await query(self.hint)
        except OperationFailure as error:
            if self.hint is None or error.code != errors.BAD_HINT:
                raise
        self.hint = None
        return await query(None)


def query(topic: str, now: datetime, begin: datetime | None = None) -> dict[str, Any]:
    """What finds the due tasks of a topic, those from a time on if one is given."""
    scheduled = {"$lte": now} if begin is None else {"$gte": begin, "$lte": now}
    return {"topic": topic, "state": 0, "scheduled": scheduled}


def total_bytes(found: Sequence[Found]) -> int:
    """Of the documents."""
    return sum(len(document.raw) for document, _ in found)
