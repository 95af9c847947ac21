"""What an operator asks of an engine: a look at the storage, and copies of it."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import apsw
import pytest

from ratus.config import MongoDBSettings, SQLiteSettings
from ratus.engines.base import Engine
from ratus.engines.mongodb import MongoDBEngine
from ratus.engines.sqlite import SQLiteEngine
from ratus.errors import StorageUnavailable, Unsupported
from ratus.model import Check, Outcome
from tests.engines.helpers import insert, task
from tests.mongod import Mongod


def outcomes(checks: list[Check]) -> dict[str, Outcome]:
    assert all(check.detail and "\n" not in check.detail for check in checks)
    return {check.name: check.outcome for check in checks}


async def test_a_healthy_engine(engine: Engine) -> None:
    await insert(engine, *(task(str(n), f"t{n % 3}", state=n % 4) for n in range(100)))
    for thorough in (False, True):
        checks = outcomes(await engine.diagnose(thorough=thorough))
        assert Outcome.FAILED not in checks.values()
        if engine.name == "sqlite":
            assert list(checks) == ["database", "journal", "disk", *(["integrity", "counts"] if thorough else [])]
        elif engine.name == "mongodb":
            assert list(checks) == ["server", "storage clock", "indexes", "change stream"]


async def test_what_a_standalone_server_lacks(standalone_settings: MongoDBSettings) -> None:
    engine = MongoDBEngine(standalone_settings)
    await engine.open()
    await engine.indexed.wait()
    checks = outcomes(await engine.diagnose(thorough=False))
    await engine.close()
    assert checks["server"] == checks["change stream"] == Outcome.WARNING
    assert checks["indexes"] == Outcome.OK


async def test_indexes_that_are_missing_or_different(mongodb_settings: MongoDBSettings, mongod: Mongod) -> None:
    engine = MongoDBEngine(mongodb_settings)
    await engine.open()
    await engine.indexed.wait()
    collection = mongod.client[mongodb_settings.database][mongodb_settings.collection]
    collection.drop_index("topic_1_scheduled_1")
    [found] = [check for check in await engine.diagnose(thorough=False) if check.name == "indexes"]
    assert found.outcome == Outcome.FAILED
    assert "topic_1_scheduled_1" in found.detail
    collection.create_index([("topic", 1), ("scheduled", -1)], name="topic_1_scheduled_1")
    [found] = [check for check in await engine.diagnose(thorough=False) if check.name == "indexes"]
    assert found.outcome == Outcome.WARNING
    assert "topic_1_scheduled_1" in found.detail
    await engine.close()


async def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    engine = SQLiteEngine(SQLiteSettings(path=str(path)))
    await engine.open()
    await insert(engine, *(task(str(n)) for n in range(2000)))
    await engine.close()
    db = apsw.Connection(str(path))
    db.execute("UPDATE topic SET pending = pending + 1")
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'task_due'").get
    size = db.pragma("page_size")
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(bytes(100))
    await engine.open()
    checks = outcomes(await engine.diagnose(thorough=True))
    await engine.close()
    assert checks["integrity"] == checks["counts"] == Outcome.FAILED


async def test_only_files_are_copied(engine: Engine) -> None:
    if engine.name == "sqlite":
        (await engine.backup()).close()
        return
    with pytest.raises(Unsupported, match="mongodump" if engine.name == "mongodb" else "export"):
        await engine.backup()


@pytest.fixture
async def filled(tmp_path: Path) -> SQLiteEngine:
    engine = SQLiteEngine(SQLiteSettings(path=str(tmp_path / "q.db")))
    await engine.open()
    for begin in range(0, 20_000, 5_000):
        await insert(engine, *(task(f"{n:06}", payload="x" * 400) for n in range(begin, begin + 5_000)))
    return engine


def stored(copy: BinaryIO, path: Path) -> Path:
    with copy, path.open("wb") as file:
        shutil.copyfileobj(copy, file)
    return path


async def test_a_copy_is_what_one_moment_had(filled: SQLiteEngine, tmp_path: Path) -> None:
    backup = asyncio.create_task(filled.backup())
    written = 20_000
    while not backup.done():  # each batch is one transaction, so a copy has all of it or nothing
        await insert(filled, *(task(f"{n:06}") for n in range(written, written + 100)))
        written += 100
    path = stored(await backup, tmp_path / "copy.db")
    await filled.close()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".ratus")]
    copy = SQLiteEngine(SQLiteSettings(path=str(path)))
    await copy.open()
    assert Outcome.FAILED not in outcomes(await copy.diagnose(thorough=True)).values()
    count = (await copy.get_topic("t")).count
    assert 20_000 <= count <= written
    assert count % 100 == 0
    assert [found.id for found in await copy.list_tasks("t", f"{count - 2:06}", 0, 10)] == [f"{count - 1:06}"]
    await copy.close()


async def test_a_copy_that_nobody_wants_any_more(filled: SQLiteEngine, tmp_path: Path) -> None:
    backup = asyncio.create_task(filled.backup())
    await asyncio.sleep(0)  # so that it has begun
    backup.cancel()
    with pytest.raises(asyncio.CancelledError):
        await backup
    backup = asyncio.create_task(filled.backup())
    await asyncio.sleep(0)
    await filled.close()  # waits for both
    with pytest.raises(StorageUnavailable):
        await backup
    assert sorted(os.listdir(tmp_path)) == ["q.db", "q.db.lock"]


async def test_a_copy_that_cannot_be_written(filled: SQLiteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(StorageUnavailable, match="No space left"):
        await filled.backup()
    await filled.close()
