"""The final state of the storage, read through an engine of its own when no server runs on it any more."""

from pathlib import Path

import apsw

from ratus.config import MongoDBSettings, SQLiteSettings
from ratus.engines.base import Engine
from ratus.engines.mongodb import MongoDBEngine
from ratus.engines.sqlite import SQLiteEngine
from tests.reliability.history import Stored

_PAGE = 10_000


async def stored_in(engine: Engine) -> dict[str, Stored]:
    """All tasks."""
    found: dict[str, Stored] = {}
    after = ""
    while page := await engine.list_tasks("", after, 0, _PAGE):
        found.update((task.id, Stored.of(task)) for task in page)
        after = page[-1].id
    return found


async def read_sqlite(path: Path) -> dict[str, Stored]:
    """What a file holds once it was opened as a server would; the file must be sound."""
    engine = SQLiteEngine(SQLiteSettings(path=str(path)))
    await engine.open()
    try:
        found = await stored_in(engine)
    finally:
        await engine.close()
    with apsw.Connection(str(path)) as connection:
        damages = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    assert damages == ["ok"], damages
    return found


async def read_mongodb(settings: MongoDBSettings) -> dict[str, Stored]:
    """What a collection holds."""
    engine = MongoDBEngine(settings)
    await engine.open()
    try:
        return await stored_in(engine)
    finally:
        await engine.close()
