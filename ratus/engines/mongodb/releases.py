"""What happens to promises after they were made: extensions, releases, recovery."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from ratus.engines.mongodb import documents, errors, guarded
from ratus.engines.mongodb.claimed import Claimed
from ratus.engines.mongodb.fallback import Collection, Fallbacks, Modifier, Operation
from ratus.engines.mongodb.guarded import CHUNK, Guarded
from ratus.errors import StorageUnavailable
from ratus.model import Extension, Hold

_RELEASED: Final = {"state": 0, "nonce": ""}
_ATTEMPTS: Final = 3


class Releases:
    """Extends, releases and recovers promises."""

    def __init__(self, collection: Collection, fallbacks: Fallbacks, claimed: Claimed) -> None:
        self._collection = collection
        self._fallbacks = fallbacks
        self._modifier = Modifier(collection, fallbacks)
        self._claimed = claimed

    async def extend(self, extensions: Sequence[Extension]) -> list[bool]:
        """Set the deadlines of promises that are held; tell for each whether it was."""
        results: list[bool] = []
        for start in range(0, len(extensions), CHUNK):
            results += await self._extend(extensions[start : start + CHUNK])
        return results

    async def _extend(self, extensions: Sequence[Extension]) -> list[bool]:
        # Written twice is as good as once, so neither a lost answer nor a total that is short needs more than this.
        # The nonce stays, so it is this field that tells that the task is not as it was claimed.
        updates = [
            UpdateOne(
                {"_id": extension.id, "state": 1, "nonce": extension.nonce},
                {"$set": {"deadline": extension.deadline, documents.PROMISE: ""}},
            )
            for extension in extensions
        ]
        self._claimed.forget(extension.id for extension in extensions)
        if await self._matched(updates) == len(updates):
            return [True] * len(updates)
        return [await self._matched([update]) == 1 for update in updates]

    async def _matched(self, updates: Sequence[UpdateOne]) -> int:
        attempt = 1
        while True:
            try:
                return (await self._collection.bulk_write(updates)).matched_count
            except PyMongoError as error:
                if not errors.is_unknown(error) or attempt == _ATTEMPTS:
                    raise
            attempt += 1

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        """Set tasks that are held back to pending; the topic for each that was."""
        results: list[str | None] = [None] * len(holds)
        distinct = {hold: index for index, hold in reversed(list(enumerate(holds)))}
        for start in range(0, len(distinct), CHUNK):
            part = list(distinct)[start : start + CHUNK]
            for hold, topic in zip(part, await self._release(part), strict=True):
                results[distinct[hold]] = topic
        return results

    async def _release(self, holds: Sequence[Hold]) -> list[str | None]:
        topics = await self._held(holds)
        held = [hold for hold in holds if hold in topics]
        if not held:
            return [None] * len(holds)
        entries = [Guarded(hold.id, hold.nonce, _RELEASED) for hold in held]
        outcomes = await guarded.write(self._collection, self._fallbacks, Operation.RELEASE, entries)
        if None in outcomes:
            raise StorageUnavailable("the outcome of the release is unknown")
        for hold, outcome in zip(held, outcomes, strict=True):
            if not outcome:
                topic = await self.delete_promise(hold.id, hold.nonce)
                if topic is None:
                    del topics[hold]
                else:
                    topics[hold] = topic
        return [topics.get(hold) for hold in holds]

    async def held(self, holds: Sequence[Hold]) -> list[bool]:
        """Tell for each whether its task is still active with this nonce."""
        results: list[bool] = []
        for start in range(0, len(holds), CHUNK):
            part = holds[start : start + CHUNK]
            topics = await self._held(part)
            results += [hold in topics for hold in part]
        return results

    async def _held(self, holds: Sequence[Hold]) -> dict[Hold, str]:
        """The topics of those that are held."""
        query = {"_id": {"$in": [hold.id for hold in holds]}, "state": 1}
        found: list[RawBSONDocument] = await self._collection.find(query, {"nonce": 1, "topic": 1}).to_list()
        by_hold = {Hold(document["_id"], document["nonce"]): document["topic"] for document in found}
        return {hold: by_hold[hold] for hold in holds if hold in by_hold}

    async def delete_promise(self, id: str, nonce: str) -> str | None:
        """Set an active task back to pending, with a nonce only if it is still the task's; its topic."""
        query: dict[str, Any] = {"_id": id, "state": 1}
        if nonce:
            query["nonce"] = nonce
        document = await self._modifier.modify(Operation.RELEASE, query, _RELEASED, projection={"topic": 1})
        return None if document is None else str(document["topic"])

    async def delete_promises(self, topic: str) -> int:
        """Set all active tasks of a topic back to pending; their number."""
        result = await self._collection.update_many({"topic": topic, "state": 1}, {"$set": _RELEASED})
        return result.matched_count

    async def recover(self, now: datetime) -> list[str]:
        """Set active tasks whose deadline has passed back to pending; their topics, each once."""
        missed = {"state": 1, "deadline": {"$lt": now}}
        topics: dict[str, None] = {}
        while True:
            found = await self._collection.find(missed, {"topic": 1}, limit=CHUNK).to_list()
            if found:
                await self._recover({**missed, "_id": {"$in": [document["_id"] for document in found]}})
                topics.update((document["topic"], None) for document in found)
            if len(found) < CHUNK:
                return list(topics)

    async def _recover(self, query: dict[str, Any]) -> None:
        # What was recovered is found no more, so that this can be repeated.
        attempt = 1
        while True:
            try:
                await self._collection.update_many(query, {"$set": _RELEASED}, hint="_id_")
            except PyMongoError as error:
                if not errors.is_unknown(error) or attempt == _ATTEMPTS:
                    raise
            else:
                return
            attempt += 1

    async def next_deadline(self) -> datetime | None:
        """The earliest deadline of all active tasks."""
        query = {"state": 1, "deadline": {"$type": "date"}}
        document = await self._collection.find_one(query, {"deadline": 1}, sort=(("deadline", 1),))
        return None if document is None else documents.moment(document["deadline"])
