"""The journal is shortened while tasks are written, whatever happens meanwhile."""

import logging
import os
import secrets
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from msgspec import Raw

from ratus import times
from ratus.config import SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine, checkpoints, schema
from ratus.model import Task

PAYLOAD = Raw(b'"' + b"x" * 2000 + b'"')
BATCH = 500
WAL_BYTES = 4 * 2**20  # shorter than otherwise, so that it is shortened soon
LONG = 5 * WAL_BYTES  # what no journal reaches unless somebody reads it


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SQLiteEngine]:
    monkeypatch.setattr(schema, "WAL_BYTES", WAL_BYTES)
    engine = SQLiteEngine(SQLiteSettings(path=str(tmp_path / "q.db")))
    await engine.open()
    yield engine
    await engine.close()
    assert sorted(os.listdir(tmp_path)) == ["q.db", "q.db.lock"]  # all was moved at last


async def write(engine: SQLiteEngine, size: int) -> int:
    """Insert tasks of so many bytes; their number."""
    count = 0
    while size > 0:
        now = times.now()
        tasks = [
            Task(id=secrets.token_hex(8), topic="t", state=0, nonce="", produced=now, scheduled=now, payload=PAYLOAD)
            for _ in range(BATCH)
        ]
        count += sum(await engine.insert(tasks))
        size -= BATCH * len(memoryview(PAYLOAD))
    return count


def journal(path: Path) -> int:
    return (path / "q.db-wal").stat().st_size


async def test_the_journal_stays_short(engine: SQLiteEngine, tmp_path: Path) -> None:
    count = await write(engine, 8 * WAL_BYTES)
    assert journal(tmp_path) < LONG
    assert (await engine.get_topic("t")).count == count


async def test_the_journal_is_moved_beside_the_writer(engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, moved = checkpoints._checkpoint, Counter[str]()

    def noted(connection: apsw.Connection) -> int:
        pages = checkpoint(connection)
        moved[threading.current_thread().name] += pages
        return pages

    monkeypatch.setattr(checkpoints, "_checkpoint", noted)
    await write(engine, 8 * WAL_BYTES)
    assert moved["sqlite-checkpoints"] > 0


async def test_what_fails_beside_the_writer_is_tried_again(
    engine: SQLiteEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint, left = checkpoints._checkpoint, 4

    def failing(connection: apsw.Connection) -> int:
        nonlocal left
        left -= 1
        if left >= 0:
            raise apsw.IOError("disk I/O error")
        return checkpoint(connection)

    monkeypatch.setattr(checkpoints, "_checkpoint", failing)
    with caplog.at_level(logging.WARNING):
        await write(engine, 8 * WAL_BYTES)
    assert left < 0
    assert "could not be shortened" in caplog.text
    longest = journal(tmp_path)
    await write(engine, 16 * WAL_BYTES)
    assert journal(tmp_path) <= max(longest, LONG)  # since it has started anew


async def test_a_reader_keeps_the_journal_until_it_ends(engine: SQLiteEngine, tmp_path: Path) -> None:
    await write(engine, BATCH)
    reader = apsw.Connection(str(tmp_path / "q.db"))
    reader.execute("BEGIN")
    before = reader.execute("SELECT count(*) FROM task").get
    await write(engine, 6 * WAL_BYTES)
    assert reader.execute("SELECT count(*) FROM task").get == before
    longest = journal(tmp_path)
    assert longest > LONG
    reader.close()
    await write(engine, 16 * WAL_BYTES)
    assert journal(tmp_path) < longest + LONG


def test_a_commit_that_a_checkpoint_meets_is_no_trouble(tmp_path: Path) -> None:
    """The index of the journal cannot be read in the moment in which the writer changes its head."""
    path = str(tmp_path / "q.db")
    writer = schema.connect(path)
    writer.execute("PRAGMA synchronous = OFF")
    over = threading.Event()

    def commit() -> None:
        while not over.is_set():
            writer.execute("INSERT INTO topic VALUES ('t', 0, 0, 0, 0) ON CONFLICT DO UPDATE SET pending = pending + 1")

    committing = threading.Thread(target=commit)
    committing.start()
    try:
        connection = checkpoints._connect(path)
        for _ in range(3000):
            checkpoints._checkpoint_beside(connection)
    finally:
        over.set()
        committing.join()
        writer.close()
    connection.close()
