"""What the engine runs looks at no more rows than it needs, however many are stored.

Two checks that do not depend on time: the query plans of the statements as they were run, and the steps of SQLite's
virtual machine, which must not grow with the store.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from math import sqrt
from pathlib import Path
from typing import Any
from zlib import crc32

import apsw
import pytest

from ratus.config import SQLiteSettings
from ratus.engines.base import Engine
from ratus.engines.sqlite import SQLiteEngine
from ratus.model import Task
from tests.engines.helpers import ANY_SIZE, HOUR, NOW, SECOND, claim, commit, grants, insert, task

FEW, MANY = 300, 3_000
STEPS = 10  # of the virtual machine, between two calls of the handler
GROWTH = 1.5  # the trees get higher, and nothing else
CALLS: dict[str, Callable[[Engine], Awaitable[Any]]] = {
    "claim": lambda engine: engine.claim("t", grants(1), ANY_SIZE),
    "claim of many": lambda engine: engine.claim("t", grants(20), ANY_SIZE),
    "claim of nothing": lambda engine: engine.claim("later", grants(20), ANY_SIZE),
    "commit": lambda engine: engine.commit([commit(task(spread("active-10")), nonce="n")]),
    "insert": lambda engine: engine.insert([task(f"new-{number}") for number in range(20)]),
    "next_scheduled": lambda engine: engine.next_scheduled("t"),
    "next_deadline": lambda engine: engine.next_deadline(),
    "recover": lambda engine: engine.recover(NOW),
    "due_topics": lambda engine: engine.due_topics(["t", "later", "other"], NOW),
    "list_topics": lambda engine: engine.list_topics("", 0, 10),
    "get_topic": lambda engine: engine.get_topic("t"),
}

LISTS: dict[str, Callable[[Engine], Awaitable[Any]]] = {
    "list_tasks": lambda engine: engine.list_tasks("t", "5", 0, 10),
    "list_tasks of all": lambda engine: engine.list_tasks("", "5", 0, 10),
    "list_promises": lambda engine: engine.list_promises("t", "5", 0, 10),
    "list_promises of a topic with few": lambda engine: engine.list_promises("rare", "5", 0, 10),
    "list_promises of all": lambda engine: engine.list_promises("", "5", 0, 10),
}


class Trace:
    """What is run on any connection while it listens: statements with their bindings, and steps."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []
        self.steps = 0
        self.listens = False

    def attach(self, connection: apsw.Connection) -> None:
        connection.exec_trace = self._note
        connection.set_progress_handler(self._step, STEPS)

    def _note(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if self.listens:
            self.statements.append((sql, bindings))
        return True

    def _step(self) -> bool:
        self.steps += self.listens
        return False

    async def of(self, call: Callable[[Engine], Awaitable[Any]], engine: Engine) -> int:
        """The steps of a call."""
        self.steps, self.listens = 0, True
        await call(engine)
        self.listens = False
        return self.steps


@pytest.fixture
def trace() -> Iterator[Trace]:
    trace = Trace()
    apsw.connection_hooks.append(trace.attach)
    yield trace
    apsw.connection_hooks.remove(trace.attach)


def spread(name: str) -> str:
    """An ID that begins with anything, as those of clients do."""
    return f"{crc32(name.encode()):08x}-{name}"


def stored(count: int) -> Sequence[Task]:
    """Tasks in all states, of which hardly any are due in the topic, or missed."""
    tasks = [task(spread(f"due-{number}"), scheduled=NOW - HOUR) for number in range(60)]
    tasks += [
        task(spread(f"later-{number}"), scheduled=NOW + HOUR, topic=("t", "later")[number % 2])
        for number in range(count)
    ]
    tasks += [
        task(spread(f"active-{number}"), state=1, nonce="n", consumed=NOW - HOUR, deadline=NOW + HOUR)
        for number in range(count)
    ]
    tasks += [task(spread(f"missed-{number}"), state=1, nonce="n", deadline=NOW - SECOND) for number in range(5)]
    tasks += [task(spread(f"rare-{number}"), "rare", state=1, nonce="n", deadline=NOW + HOUR) for number in range(5)]
    tasks += [task(spread(f"archived-{number}"), state=3) for number in range(count)]
    tasks += [task(spread(f"a-completed-{number}"), state=2, consumed=NOW - HOUR) for number in range(count)]
    return tasks


async def opened(path: Path, count: int) -> SQLiteEngine:
    engine = SQLiteEngine(SQLiteSettings(path=str(path)))
    await engine.open()
    await insert(engine, *stored(count))
    return engine


@pytest.fixture
async def engines(trace: Trace, tmp_path: Path) -> AsyncIterator[tuple[SQLiteEngine, SQLiteEngine]]:
    """One with few tasks and one with many."""
    few, many = await opened(tmp_path / "few.db", FEW), await opened(tmp_path / "many.db", MANY)
    yield few, many
    await few.close()
    await many.close()


@pytest.mark.parametrize("name", CALLS)
async def test_steps_do_not_grow(name: str, trace: Trace, engines: tuple[SQLiteEngine, SQLiteEngine]) -> None:
    few, many = [await trace.of(CALLS[name], engine) for engine in engines]
    assert few > 0
    assert many < GROWTH * few


@pytest.mark.parametrize("name", LISTS)
async def test_lists_grow_with_the_square_root(
    name: str, trace: Trace, engines: tuple[SQLiteEngine, SQLiteEngine]
) -> None:
    """A page is found among the candidates or among all ids, whichever is nearer."""
    few, many = [await trace.of(LISTS[name], engine) for engine in engines]
    assert 0 < many < GROWTH * sqrt(MANY / FEW) * few


@pytest.mark.parametrize("name", CALLS)
async def test_plans_search(name: str, trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    engine = await opened(path, FEW)
    await trace.of(CALLS[name], engine)
    await engine.close()  # only then may the file be opened by other means
    plans = [plan for sql, bindings in trace.statements for plan in explain(path, sql, bindings)]
    assert plans
    assert not [plan for plan in plans if plan.startswith(("SCAN task", "SCAN topic"))]
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]


def explain(path: Path, sql: str, bindings: Any) -> list[str]:
    """The lines of the plan; none for statements that have no plan."""
    connection = apsw.Connection(str(path))
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings).fetchall()
    connection.close()
    return [detail for *_, detail in rows]


async def test_a_scan_is_noticed(trace: Trace, tmp_path: Path) -> None:
    """The checks see what they are there to see."""
    path = tmp_path / "q.db"
    engine = await opened(path, FEW)
    assert await claim(engine, "t", 1)
    await engine.close()
    assert explain(path, "SELECT count(*) FROM task WHERE consumer = ?", ("x",)) == ["SCAN task"]
