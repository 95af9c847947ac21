"""The file of the SQLite engine: whose it is, who holds it, and what survives."""

import asyncio
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from ratus import rules, times
from ratus.config import Limits, SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine, schema, writes
from ratus.errors import RatusError, StartError, StorageUnavailable
from ratus.model import Task, TaskInput


def task(id: str, **given: object) -> Task:
    given = {"topic": "t", **given}
    return rules.new_task(TaskInput(id=id, **given), times.now(), Limits())  # type: ignore[arg-type]


async def opened(path: Path) -> SQLiteEngine:
    engine = SQLiteEngine(SQLiteSettings(path=str(path)))
    await engine.open()
    return engine


def fingerprint(directory: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in directory.iterdir()
        if file.suffix != ".lock"
    }


async def test_a_new_file_says_whose_it_is(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "q.db")
    header = (tmp_path / "q.db").read_bytes()[:100]  # even before anything was written back from the journal
    await engine.close()
    assert int.from_bytes(header[68:72]) == schema.APPLICATION_ID
    assert int.from_bytes(header[60:64]) == schema.VERSION


async def test_tasks_outlive_the_engine(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "q.db")
    await engine.insert([task("1", payload=b'{"a":1}')])
    stored = await engine.get("1")
    await engine.close()
    engine = await opened(tmp_path / "q.db")
    assert await engine.get("1") == stored
    assert await engine.insert([task("1"), task("2")]) == [False, True]
    claimed = await engine.claim("t", [rules.grant("", None, None, times.now()) for _ in range(2)], 10**6)
    assert [t.id for t in claimed] == ["1", "2"]  # the order of insertion goes on after the restart
    await engine.close()


@pytest.mark.parametrize("content", [b"hello world", b"\0" * 4096, b"SQLite format 3\0", b"{}" * 1000])
async def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    before = fingerprint(tmp_path)
    with pytest.raises(StartError, match="is not a Ratus queue"):
        await opened(path)
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize("journal", ["delete", "wal"])
async def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("CREATE TABLE task (id TEXT)")
    db.close()
    before = fingerprint(tmp_path)
    with pytest.raises(StartError, match="belongs to another program"):
        await opened(path)
    assert fingerprint(tmp_path) == before


async def test_the_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    await (await opened(path)).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    before = fingerprint(tmp_path)
    with pytest.raises(StartError, match="newer Ratus"):
        await opened(path)
    assert fingerprint(tmp_path) == before


async def test_an_empty_file_becomes_a_queue(tmp_path: Path) -> None:
    (tmp_path / "q.db").touch()
    engine = await opened(tmp_path / "q.db")
    assert await engine.insert([task("1")]) == [True]
    await engine.close()


async def test_a_power_cut_while_the_schema_is_made_leaves_a_queue(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.write_bytes(bytes(3 * 2048))  # pages of which none has arrived
    journal = bytes.fromhex("d9d505f920a163d7") + b"".join(
        n.to_bytes(4) for n in (0, 1, 0, 512, 2048)
    )  # no page before
    path.with_name("q.db-journal").write_bytes(journal.ljust(512, b"\0"))
    engine = await opened(path)
    assert await engine.insert([task("1")]) == [True]
    await engine.close()


async def test_zeros_without_a_journal_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.write_bytes(bytes(3 * 2048))
    path.with_name("q.db-journal").write_bytes(b"the journal of somebody else")
    before = fingerprint(tmp_path)
    with pytest.raises(StartError, match="is not a Ratus queue"):
        await opened(path)
    assert fingerprint(tmp_path) == before


async def test_paths_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "q.db"):
        with pytest.raises(StartError, match="cannot open"):
            await opened(path)


async def test_a_file_has_one_server(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "q.db")
    os.symlink(tmp_path / "q.db", tmp_path / "link.db")
    for path in (tmp_path / "q.db", tmp_path / "link.db"):
        with pytest.raises(StartError, match="is held by another process"):
            await opened(path)
    await engine.close()
    await (await opened(tmp_path / "q.db")).close()


WRITER = """
import asyncio, sys
from ratus import rules, times
from ratus.config import Limits, SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine
from ratus.model import TaskInput

async def main():
    engine = SQLiteEngine(SQLiteSettings(path=sys.argv[1]))
    await engine.open()
    async def insert(worker):
        number = 0
        while True:
            id = f"{sys.argv[2]}-{worker}-{number}"
            await engine.insert([rules.new_task(TaskInput(id=id, topic="t"), times.now(), Limits())])
            print(id, flush=True)
            number += 1
    await asyncio.gather(*map(insert, range(8)))
asyncio.run(main())
"""


async def test_what_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    answered: set[str] = set()
    for round_ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(round_)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(200 + 100 * round_):
            answered.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        answered.update(line for line in process.stdout.read().split("\n")[:-1])
        process.stdout.close()
        process.wait()
    engine = await opened(path)
    stored: set[str] = set()
    after = ""
    while page := await engine.list_tasks("t", after, 0, 1000):
        stored.update(t.id for t in page)
        after = page[-1].id
    assert len(answered) > 1000
    assert answered <= stored
    assert (await engine.get_topic("t")).count == len(stored)
    await engine.close()


async def test_one_failing_call_fails_alone() -> None:
    engine = SQLiteEngine(SQLiteSettings(path=None))
    await engine.open()

    def broken(db: apsw.Connection, entries: object) -> list[None]:
        db.execute("DELETE FROM task")
        db.execute("SELECT nonsense FROM task")
        raise AssertionError

    await engine.insert([task("0")])
    calls = [engine.insert([task(str(n))]) for n in range(1, 20)]
    results = await asyncio.gather(*calls[:10], engine._writer.run(broken, [None]), *calls[10:], return_exceptions=True)
    assert isinstance(results[10], apsw.SQLError)
    assert [result for n, result in enumerate(results) if n != 10] == [[True]] * 19
    assert (await engine.get_topic("t")).count == 20
    await engine.close()


async def test_a_full_disk_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "q.db")
    assert await engine.insert([task("1")]) == [True]

    def shrink(db: apsw.Connection, entries: list[int]) -> list[int]:
        return [db.execute(f"PRAGMA max_page_count = {entry}").get for entry in entries]

    def pages(db: apsw.Connection, entries: list[None]) -> list[int]:
        return [db.execute("PRAGMA page_count").get for _ in entries]

    [count] = await engine._writer.run(pages, [None])
    await engine._writer.run(shrink, [count])
    big = [task(str(n), payload=b'"' + b"x" * 1_000_000 + b'"') for n in range(2, 32)]  # more than is free in the file
    with pytest.raises(StorageUnavailable):
        await engine.insert(big)
    assert (await engine.get_topic("t")).count == 1
    await engine._writer.run(shrink, [1_000_000])
    assert await engine.insert(big) == [True] * 30
    assert (await engine.get_topic("t")).count == 31
    await engine.close()


async def test_a_large_deletion_lets_others_in_between(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "q.db")
    many = 5 * writes.PURGE_ROWS
    await engine.insert([task(str(n)) for n in range(many)])
    deletion = asyncio.create_task(engine.delete_tasks("t", None))
    answered = 0
    while not deletion.done():
        await engine.insert([task(f"new-{answered}")])
        answered += 1
    deleted = await deletion
    assert answered > 1
    assert many <= deleted <= many + 1  # what came after the begin of the deletion stays
    assert (await engine.get_topic("t")).count == many + answered - deleted
    await engine.close()


async def test_a_cancelled_call_is_applied_and_harms_nobody() -> None:
    engine = SQLiteEngine(SQLiteSettings(path=None))
    await engine.open()
    calls = [asyncio.create_task(engine.insert([task(str(n))])) for n in range(10)]
    await asyncio.sleep(0)  # let them be queued
    calls[3].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[3], asyncio.CancelledError)
    assert (await engine.get_topic("t")).count == 10
    await engine.close()


async def test_expiry_follows_the_retention_period() -> None:
    engine = SQLiteEngine(SQLiteSettings(path=None, retention=timedelta(hours=1)))
    await engine.open()
    now = times.now()
    hour = timedelta(hours=1)
    await engine.insert(
        [
            task("old", state=2, consumed=now - hour - timedelta(milliseconds=1)),
            task("young", state=2, consumed=now - hour + timedelta(minutes=1)),
            task("never consumed", state=2),
            task("archived", state=3, consumed=now - 2 * hour),
            task("pending", consumed=now - 2 * hour),
        ]
    )
    assert await engine.expire(now) == 1
    with pytest.raises(RatusError):
        await engine.get("old")
    assert (await engine.get_topic("t")).count == 4
    await engine.close()
