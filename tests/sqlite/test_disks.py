"""The SQLite engine on a disk that is full or fails."""

import asyncio
import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from ratus.engines.sqlite import SQLiteEngine, schema
from ratus.errors import StorageUnavailable
from tests.reliability.dial import Dial
from tests.reliability.shim import ShimVFS, Trouble
from tests.reliability.storage import read_sqlite
from tests.reliability.trace import DATABASE, Disk, Kind, read
from tests.sqlite.test_files import opened, task

PAGE = b'"' + b"x" * 2000 + b'"'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "q.db"


@pytest.fixture
def disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dial]:
    """What the disk cannot do now."""
    dial = Dial(path.with_name("trouble"))
    vfs = ShimVFS(str(path), dial, path.with_name("trace"))
    monkeypatch.setattr(os, "fdatasync", vfs.fdatasync)
    yield dial
    vfs.unregister()
    vfs.close()


@pytest.mark.parametrize("trouble", [Trouble.WRITES, Trouble.LOG_SYNCS])
async def test_what_was_not_written_is_not_acknowledged_and_nothing_has_to_be_started_anew(
    path: Path, disk: Dial, trouble: Trouble
) -> None:
    engine = await opened(path)
    assert await engine.insert([task("1")]) == [True]
    disk.set(trouble)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await engine.insert([task("2")])
    with pytest.raises(StorageUnavailable):
        await engine.delete("1")
    assert (await engine.get("1")).id == "1"
    disk.set(Trouble.NONE)
    assert await engine.insert([task("1"), task("2")]) == [False, True]
    await engine.close()
    engine = await opened(path)
    assert [one.id for one in await engine.list_tasks("t", "", 0, 10)] == ["1", "2"]
    await engine.close()


async def test_a_start_on_a_full_disk_serves_what_is_there_and_goes_on_once_there_is_room(
    path: Path, disk: Dial
) -> None:
    engine = await opened(path)
    await engine.insert([task("1")])
    await engine.close()
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE filler (bytes BLOB)")  # as a start does that found no room for more
    db.close()
    disk.set(Trouble.FULL)
    engine = await opened(path)
    assert (await engine.get("1")).id == "1"
    with pytest.raises(StorageUnavailable):
        await engine.insert([task("2")])
    disk.set(Trouble.NONE)
    assert await engine.insert([task("2")]) == [True]
    await engine.close()


async def test_after_a_failed_sync_of_the_database_the_journal_keeps_everything(
    path: Path, disk: Dial, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The system may have dropped what it could not write, and SQLite, which has moved it, would not move it again."""
    monkeypatch.setattr(schema, "WAL_BYTES", 64 * 1024)
    trace = path.with_name("trace")
    engine = await opened(path)
    ids = await insert(engine, 10)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM task").get == len(ids)
    disk.set(Trouble.DATABASE_SYNCS)  # the journal is moved as far as the reader sees, and that is not synced
    async with asyncio.timeout(60):
        while not any(one.kind is Kind.FAILED_SYNC and one.file == DATABASE for one in read(trace)):
            ids |= await insert(engine, 20)
    disk.set(Trouble.NONE)
    reader.close()
    for _ in range(20):  # in which a journal that was moved starts anew
        ids |= await insert(engine, 20)
    await engine.close()
    assert "until the next start" in caplog.text
    for seed in range(5):
        left = Disk(random.Random(seed))
        for operation in read(trace):
            left.apply(operation)
        cut = path.with_name(f"cut-{seed}")
        left.cut(cut)
        assert (await read_sqlite(cut)).keys() == ids


async def insert(engine: SQLiteEngine, count: int) -> set[str]:
    """Insert tasks; their IDs."""
    tasks = [task(secrets.token_hex(8), payload=PAGE) for _ in range(count)]
    assert all(await engine.insert(tasks))
    return {one.id for one in tasks}
