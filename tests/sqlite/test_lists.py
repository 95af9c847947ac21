"""Lists are the same whichever way their pages are found, and look at few rows."""

import math
import random
from collections.abc import AsyncIterator

import apsw
import pytest

from ratus.config import SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine
from tests.engines.helpers import NOW, task

STORED = 4_000
SHARES = {"most": 0.9, "some": 0.09, "few": 0.009, "hardly": 0.001}


@pytest.fixture
async def engine() -> AsyncIterator[SQLiteEngine]:
    """Tasks in topics of very different sizes, a third of them active, with random ids."""
    picked = random.Random(1)
    engine = SQLiteEngine(SQLiteSettings(path=None))
    await engine.open()
    topics = picked.choices(list(SHARES), list(SHARES.values()), k=STORED)
    await engine.insert(
        [
            task(f"{picked.getrandbits(64):016x}", topic, state=picked.choice([0, 1, 2]), nonce="n", consumed=NOW)
            for topic in topics
        ]
    )
    yield engine
    await engine.close()


async def pages(engine: SQLiteEngine, kind: str, topic: str, limit: int) -> list[str]:
    """All ids, page by page."""
    found: list[str] = []
    while page := await getattr(engine, kind)(topic, found[-1] if found else "", 0, limit):
        found += [task.id for task in page]
    return found


@pytest.mark.parametrize("kind", ["list_tasks", "list_promises"])
@pytest.mark.parametrize("topic", [*SHARES, ""])
async def test_pages_are_whole_and_in_order(engine: SQLiteEngine, kind: str, topic: str) -> None:
    whole = await getattr(engine, kind)(topic, "", 0, 2 * STORED)
    ids = [task.id for task in whole]
    assert ids == sorted(ids)
    assert all(task.topic == topic or not topic for task in whole)
    assert all(task.state == 1 for task in whole) or kind == "list_tasks"
    stats = [await engine.get_stats(name, NOW) for name in ([topic] if topic else SHARES)]
    expected = sum(s.active if kind == "list_promises" else s.pending + s.active + s.completed for s in stats)
    assert len(ids) == expected
    assert await pages(engine, kind, topic, 7) == ids
    assert [task.id for task in await getattr(engine, kind)(topic, "", 5, 7)] == ids[5:12]


@pytest.mark.parametrize("kind", ["list_tasks", "list_promises"])
@pytest.mark.parametrize("topic", [*SHARES, ""])
async def test_a_page_looks_at_few_rows(engine: SQLiteEngine, kind: str, topic: str) -> None:
    """Some instructions for each of √(page × tasks) rows; a scan would take several times more."""
    limit, steps = 10, 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        return False

    def listen(db: apsw.Connection, entries: list[int]) -> list[None]:
        db.set_progress_handler(step if entries[0] else None, 10)
        return [None]

    await engine._writer.run(listen, [1])
    await getattr(engine, kind)(topic, "7", 0, limit)
    await engine._writer.run(listen, [0])
    assert steps * 10 < 40 * math.sqrt(limit * STORED) + 100 * limit


async def test_finished_tasks_of_a_topic_are_deleted_and_no_others(engine: SQLiteEngine) -> None:
    before = {topic: await engine.get_stats(topic, NOW) for topic in SHARES}
    assert await engine.delete_tasks("most", 2) == before["most"].completed
    assert await engine.delete_tasks("most", 2) == 0
    after = await engine.get_stats("most", NOW)
    assert (after.pending, after.active, after.completed) == (before["most"].pending, before["most"].active, 0)
    assert await engine.get_stats("some", NOW) == before["some"]
    assert [task.state for task in await engine.list_tasks("most", "", 0, STORED)].count(2) == 0
