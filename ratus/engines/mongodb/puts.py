"""Inserts and upserts of batches."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.fallback import SHARDING_CODES, Collection, Fallbacks, Operation
from ratus.model import Task

_NO_TRANSACTIONS: Final = 20  # a standalone server
_log = logging.getLogger(__name__)


class Puts:
    """Stores tasks."""

    def __init__(self, collection: Collection, fallbacks: Fallbacks) -> None:
        self._collection = collection.with_options(codec_options=documents.PLAIN)
        self._fallbacks = fallbacks
        self._transactions = True  # until the server says that it has none

    async def insert(self, tasks: Sequence[Task]) -> list[bool]:
        """Store the tasks whose ids are new, of equal ids the first; tell for each whether it was stored."""
        first: dict[str, int] = {}
        for index, task in enumerate(tasks):
            first.setdefault(task.id, index)
        stored = await self._insert_distinct([documents.encode(tasks[index]) for index in first.values()])
        results = [False] * len(tasks)
        for index, new in zip(first.values(), stored, strict=True):
            results[index] = new
        return results

    async def _insert_distinct(self, batch: Sequence[dict[str, Any]]) -> list[bool]:
        # The server knows a write that the driver repeats by its number, and does not take it for a duplicate of
        # itself; where there are no such numbers, on a standalone server, the driver does not repeat. So a duplicate
        # is always somebody else's, and an insert is never repeated here.
        try:
            if len(batch) == 1:
                await self._collection.insert_one(batch[0])
            else:
                await self._collection.insert_many(batch, ordered=False)
        except DuplicateKeyError:
            return [False]
        except BulkWriteError as error:
            if errors.codes(error) != {errors.DUPLICATE_KEY}:
                raise
            existing = {entry["index"] for entry in errors.write_errors(error)}
            return [index not in existing for index in range(len(batch))]
        return [True] * len(batch)

    async def upsert(self, tasks: Sequence[Task]) -> list[bool]:
        """Store or replace the tasks, of equal ids the last; tell for each, of equal ones the first, if it is new."""
        first: dict[str, int] = {}
        last: dict[str, Task] = {}
        for index, task in enumerate(tasks):
            first.setdefault(task.id, index)
            last[task.id] = task
        stored = await self._upsert_distinct([documents.encode(task) for task in last.values()])
        results = [False] * len(tasks)
        for id, new in zip(last, stored, strict=True):
            results[first[id]] = new
        return results

    async def _upsert_distinct(self, batch: Sequence[dict[str, Any]]) -> list[bool]:
        results = [False] * len(batch)
        left = range(len(batch)) if self._fallbacks.active(Operation.UPSERT) else await self._replace(batch, results)
        for index in left:
            results[index] = await self._replace_in_two(batch[index])
        return results

    async def _replace(self, batch: Sequence[dict[str, Any]], results: list[bool]) -> Sequence[int]:
        """Replace at once, note what is new, and give the indexes that a sharded collection has refused."""
        left: Sequence[int] = range(len(batch))
        while left:
            requests = [ReplaceOne({"_id": batch[index]["_id"]}, batch[index], upsert=True) for index in left]
            details: Mapping[str, Any]
            try:
                details = (await self._collection.bulk_write(requests, ordered=False)).bulk_api_result
            except BulkWriteError as error:
                # Two upserts of one new task can collide; the one that lost replaces when it is repeated.
                if not errors.codes(error) <= {errors.DUPLICATE_KEY} | SHARDING_CODES:
                    raise
                refused = self._fallbacks.switch(Operation.UPSERT, error)
                if not refused and errors.codes(error) != {errors.DUPLICATE_KEY}:
                    raise
                details = error.details
            except OperationFailure as error:
                if not self._fallbacks.switch(Operation.UPSERT, error):
                    raise
                return left
            for entry in details["upserted"]:
                results[left[entry["index"]]] = True
            left = [left[entry["index"]] for entry in details["writeErrors"]]
            if self._fallbacks.active(Operation.UPSERT):
                break
        return left

    async def _replace_in_two(self, document: dict[str, Any]) -> bool:
        """Delete and insert, in a transaction where there is one; tell whether the task is new."""
        while True:
            try:
                if not self._transactions:
                    return await self._delete_and_insert(document, None)
                async with self._collection.database.client.start_session() as session:
                    return await session.with_transaction(
                        lambda in_: self._delete_and_insert(document, in_),
                        write_concern=self._collection.write_concern,
                    )
            except DuplicateKeyError:
                continue  # somebody has inserted it in between
            except OperationFailure as error:
                if not self._transactions or error.code != _NO_TRANSACTIONS:
                    raise
                _log.info("MongoDB: this server has no transactions, upserts delete and insert without")
                self._transactions = False

    async def _delete_and_insert(self, document: dict[str, Any], session: AsyncClientSession | None) -> bool:
        deleted = await self._collection.delete_many({"_id": document["_id"]}, session=session)
        await self._collection.insert_one(document, session=session)
        return deleted.deleted_count == 0
