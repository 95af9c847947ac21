"""The two ways to change a task: at once, or by reading it first.

On a sharded collection the server refuses to find and modify a task without the shard key, or to move it between
shards without all of it. As in the original, an operation that meets such an error is then done in the other way,
for good: read the task, then find-and-modify with id, topic, state and nonce all in the filter, which contains any
sensible shard key.
"""

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import documents, errors

Collection = AsyncCollection[RawBSONDocument]

# The last is what updates of many documents answer when they would change the shard key.
SHARDING_CODES: Final = frozenset({61, 31025, 72})

_KEY: Final = {"topic": 1, "state": 1, "nonce": 1}

_log = logging.getLogger(__name__)


class Operation(Enum):
    """What switches on its own."""

    CLAIM = "claim of one task"
    CLAIMS = "claim of many tasks"
    PROMISE = "promise"
    COMMIT = "commit"
    RELEASE = "release"
    UPSERT = "upsert"


class Fallbacks:
    """Which operations have switched to the other way."""

    def __init__(self, settings: MongoDBSettings) -> None:
        self._allowed = not settings.disable_auto_fallback
        self._switched = {Operation.CLAIM} if settings.disable_atomic_poll else set()

    def active(self, operation: Operation) -> bool:
        """Whether this operation is to be done in the other way."""
        return operation in self._switched

    def switch(self, operation: Operation, error: OperationFailure) -> bool:
        """Switch an operation if the error is one of sharding; tell whether it is to be done again."""
        if not self._allowed or not errors.codes(error) & SHARDING_CODES:
            return False
        self.force(operation)
        return True

    def force(self, *operations: Operation) -> None:
        """Do these operations in the other way from now on."""
        for operation in operations:
            if operation not in self._switched:
                _log.info("MongoDB: from now on, a %s reads the task first", operation.value)
                self._switched.add(operation)


class Modifier:
    """Finds one task and modifies it, in either way."""

    def __init__(self, collection: Collection, fallbacks: Fallbacks) -> None:
        self._collection = collection
        self._fallbacks = fallbacks

    async def modify(
        self,
        operation: Operation,
        query: Mapping[str, Any],
        changes: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        hint: str | None = None,
        projection: Mapping[str, Any] | None = None,
    ) -> RawBSONDocument | None:
        """The first task that the query finds, after the changes; None when it finds none."""
        if not self._fallbacks.active(operation):
            try:
                return await self._collection.find_one_and_update(
                    query,
                    {"$set": changes},
                    projection,
                    sort=sort,
                    hint=hint,
                    return_document=ReturnDocument.AFTER,
                )
            except OperationFailure as error:
                if not self._fallbacks.switch(operation, error):
                    raise
        while True:  # each turn is one that somebody else has won
            seen = await self._collection.find_one(query, _KEY, sort=sort, hint=hint)
            if seen is None:
                return None
            modified = await self._collection.find_one_and_update(
                {**query, **documents.fields(seen)},
                {"$set": changes},
                projection,
                return_document=ReturnDocument.AFTER,
            )
            if modified is not None:
                return modified
