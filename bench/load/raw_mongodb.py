"""What MongoDB does by itself, with our durability: tasks inserted, claimed and completed, many calls at once.

A batch of one is 32 callers that do a step after the other; larger ones go through producers, one claimer and
committers, all at once. Prints full tasks a second. `python -m bench.load.raw_mongodb URI SECONDS BATCH`
"""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, ReturnDocument, WriteConcern

from bench.load.calls import PAYLOAD

CALLERS = 32
PRODUCERS = 4  # and as many committers
AHEAD = 20_000  # tasks that may be inserted and not completed
WARM_UP = 1.0  # seconds
INDEX = [("topic", 1), ("scheduled", 1)]
PENDING = {"topic": "bench", "state": 0}


class Store:
    """The collection, and how many tasks have come how far."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection
        self.inserted = self.completed = 0
        self.claimed: asyncio.Queue[tuple[str, list[str]]] = asyncio.Queue()

    def document(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        return {"_id": secrets.token_hex(8), **PENDING, "nonce": "", "scheduled": now, "payload": PAYLOAD.decode()}

    async def caller(self) -> None:
        while True:
            await self.collection.insert_one(self.document())
            self.inserted += 1
            found = await self.claim()
            if found is not None:
                await self.complete(found["nonce"], [found["_id"]])

    async def claim(self) -> Any:
        """The next task, as it is now."""
        update, _ = promise()
        return await self.collection.find_one_and_update(
            due(), update, sort=[("scheduled", 1)], hint=INDEX, return_document=ReturnDocument.AFTER
        )

    async def producer(self, batch: int) -> None:
        while True:
            if self.inserted - self.completed < AHEAD:
                await self.collection.insert_many([self.document() for _ in range(batch)], ordered=False)
                self.inserted += batch
            else:
                await asyncio.sleep(0.001)  # completing tells nobody

    async def claimer(self, batch: int) -> None:
        while True:
            cursor = self.collection.find(due(), sort=[("scheduled", 1)], limit=batch, hint=INDEX)
            ids = [document["_id"] for document in await cursor.to_list()]
            update, nonce = promise()
            if ids:
                await self.collection.update_many({"_id": {"$in": ids}, "state": 0}, update)
                self.claimed.put_nowait((nonce, ids))

    async def committer(self) -> None:
        while True:
            await self.complete(*await self.claimed.get())

    async def complete(self, nonce: str, ids: list[str]) -> None:
        update = {"$set": {"state": 2, "nonce": ""}}
        done = await self.collection.update_many({"_id": {"$in": ids}, "nonce": nonce}, update)
        self.completed += done.modified_count


def due() -> dict[str, Any]:
    return {**PENDING, "scheduled": {"$lte": datetime.now(UTC)}}


def promise() -> tuple[dict[str, Any], str]:
    nonce = secrets.token_hex(8)
    return {"$set": {"state": 1, "nonce": nonce, "deadline": datetime.now(UTC) + timedelta(minutes=1)}}, nonce


@asynccontextmanager
async def opened(uri: str) -> AsyncIterator[Store]:
    """An empty store, which is dropped in the end."""
    name = f"raw_{secrets.token_hex(4)}"
    async with AsyncMongoClient[RawBSONDocument](uri, document_class=RawBSONDocument) as client:
        collection = client[name].get_collection("tasks", write_concern=WriteConcern("majority", j=True))
        await collection.create_index(INDEX, partialFilterExpression={"state": 0})
        yield Store(collection)
        await client.drop_database(name)


async def main(uri: str, seconds: float, batch: int) -> None:
    async with opened(uri) as store:
        work: list[Coroutine[Any, Any, None]] = [store.caller() for _ in range(CALLERS)] if batch == 1 else []
        if batch > 1:
            work = [store.claimer(batch)]
            work += [part for _ in range(PRODUCERS) for part in (store.producer(batch), store.committer())]
        tasks = [asyncio.create_task(part) for part in work]
        await asyncio.wait(tasks, timeout=WARM_UP, return_when=asyncio.FIRST_EXCEPTION)
        inserted, completed, begin = store.inserted, store.completed, time.perf_counter()
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        print(min(store.inserted - inserted, store.completed - completed) / (time.perf_counter() - begin))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
