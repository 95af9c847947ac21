"""What the engine asks of MongoDB looks at no more documents than it needs, as the server's own profiler tells."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from tests.engines.helpers import ANY_SIZE, HOUR, NOW, SECOND, commit, grants, insert, opened, task
from tests.mongod import Mongod

STORED = 2_000  # in each state
MISSED = 5
CLAIMED = 20
CALLS: dict[str, tuple[Callable[[MongoDBEngine], Awaitable[Any]], int]] = {  # and the documents that it needs
    "claim": (lambda engine: engine.claim("t", grants(1), ANY_SIZE), 1),
    "claim of many": (lambda engine: engine.claim("t", grants(CLAIMED), ANY_SIZE), CLAIMED),
    "claim of several topics": (
        lambda engine: asyncio.gather(*(engine.claim(topic, grants(5), ANY_SIZE) for topic in ("t", "later", "u"))),
        5,
    ),
    "claim of nothing": (lambda engine: engine.claim("later", grants(CLAIMED), ANY_SIZE), 0),
    "commit": (lambda engine: engine.commit([commit(task("active-10"), nonce="n")]), 1),
    "next_scheduled": (lambda engine: engine.next_scheduled("t"), 1),
    "next_deadline": (lambda engine: engine.next_deadline(), 1),
    "recover": (lambda engine: engine.recover(NOW), MISSED),
    "list_tasks of all": (lambda engine: engine.list_tasks("", "active-2", 0, 10), 10),
    "get": (lambda engine: engine.get("archived-7"), 1),
}


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """With tasks in all states, of which hardly any are due in the topic or missed."""
    async with opened(mongodb_settings) as engine:
        many = range(STORED)
        await insert(engine, *(task(f"due-{number}", scheduled=NOW - HOUR) for number in range(3 * CLAIMED)))
        await insert(
            engine, *(task(f"later-{number}", ("t", "later")[number % 2], scheduled=NOW + HOUR) for number in many)
        )
        await insert(engine, *(task(f"active-{number}", state=1, nonce="n", deadline=NOW + HOUR) for number in many))
        await insert(engine, *(task(f"missed-{number}", state=1, deadline=NOW - SECOND) for number in range(MISSED)))
        await insert(engine, *(task(f"archived-{number}", state=3) for number in many))
        await insert(engine, *(task(f"completed-{number}", state=2, consumed=NOW - HOUR) for number in many))
        yield engine


@pytest.mark.parametrize("name", CALLS)
async def test_documents_examined(
    name: str, engine: MongoDBEngine, mongodb_settings: MongoDBSettings, mongod: Mongod
) -> None:
    call, needed = CALLS[name]
    database = mongod.client[mongodb_settings.database]
    database.command("profile", 2)
    await call(engine)
    database.command("profile", 0)
    seen = list(database["system.profile"].find({"ns": f"{mongodb_settings.database}.tasks"}))
    assert seen
    for operation in seen:
        assert "COLLSCAN" not in operation["planSummary"], operation
        assert operation.get("hasSortStage") is not True, operation
        # The planner may try another plan before it settles, for about as many documents.
        assert operation["docsExamined"] <= 2 * needed, operation
        assert operation["keysExamined"] <= 2 * (needed + 1), operation
