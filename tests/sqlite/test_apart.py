"""The writer in a process of its own: what it is told, how it ends, and what happens when it dies."""

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from msgspec import Raw

from ratus import rules, times
from ratus.config import Limits, SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine, apart, protocol, writes
from ratus.engines.sqlite.protocol import Frames, Kind
from ratus.errors import NonceMismatch, NotFound, StartError, StorageUnavailable
from ratus.model import Commit, Task, TaskInput, TaskState
from tests.reliability.load import until
from tests.server import Server

WAIT = 30


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SQLiteEngine]:
    engine = new_engine(tmp_path)
    await engine.open()
    yield engine
    await engine.close()
    assert sorted(os.listdir(tmp_path)) == ["q.db", "q.db.lock"]


def new_engine(directory: Path) -> SQLiteEngine:
    return SQLiteEngine(SQLiteSettings(path=str(directory / "q.db")), apart=True)


def task(id: str, payload: bytes | None = None) -> Task:
    return rules.new_task(TaskInput(id=id, topic="t", payload=payload), times.now(), Limits(payload_bytes=10**7))


def writer() -> psutil.Process:
    """The one that this process has started last."""
    return max(psutil.Process().children(), key=psutil.Process.create_time)


async def is_there_again(engine: SQLiteEngine) -> None:
    async with asyncio.timeout(WAIT):
        while True:
            try:
                await engine.delete("nothing")
                return
            except StorageUnavailable:
                await asyncio.sleep(0.01)


async def is_noticed(engine: SQLiteEngine) -> None:
    """Wait until calls fail."""
    with pytest.raises(StorageUnavailable):
        async with asyncio.timeout(WAIT):
            while True:
                await engine.insert([task("1")])


async def test_what_was_acknowledged_outlives_the_writer(engine: SQLiteEngine) -> None:
    acknowledged: set[str] = set()
    unknown = 0
    over = False

    async def insert(name: int) -> None:
        nonlocal unknown
        number = 0
        while not over:
            number += 1
            id = f"{name}-{number}"
            try:
                await engine.insert([task(id)])
            except StorageUnavailable:
                unknown += 1
                await asyncio.sleep(0.01)
            else:
                acknowledged.add(id)

    workers = [asyncio.create_task(insert(name)) for name in range(20)]
    for _ in range(3):
        enough = len(acknowledged) + 200
        await until(lambda enough=enough: len(acknowledged) >= enough, WAIT, "nothing is inserted")
        writer().kill()
    await is_there_again(engine)
    over = True
    await asyncio.gather(*workers)
    assert unknown
    stored = {one.id for one in await engine.list_tasks("t", "", 0, 10**6)}
    assert acknowledged <= stored


async def test_calls_fail_until_a_writer_can_be_started_again(
    engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.insert([task("1")])
    works = apart.PROGRAM
    monkeypatch.setattr(apart, "PROGRAM", (sys.executable, "-c", ""))
    writer().kill()
    await until(lambda: "cannot be started" in caplog.text, WAIT, "nothing is logged")
    with pytest.raises(StorageUnavailable):
        await engine.insert([task("2")])
    assert (await engine.get("1")).id == "1"  # who reads needs no writer
    monkeypatch.setattr(apart, "PROGRAM", works)
    await is_there_again(engine)
    assert await engine.insert([task("1"), task("2")]) == [False, True]


async def test_an_engine_without_a_writer_can_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = new_engine(tmp_path)
    await engine.open()
    monkeypatch.setattr(apart, "PROGRAM", (sys.executable, "-c", ""))
    writer().kill()
    await is_noticed(engine)
    await engine.close()


async def test_a_writer_that_cannot_start_is_an_error_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(tmp_path)
    monkeypatch.setattr(apart, "PROGRAM", (sys.executable, "-c", ""))
    with pytest.raises(StartError, match="died at its start"):
        await engine.open()
    monkeypatch.undo()
    (tmp_path / "q.db").mkdir()
    with pytest.raises(StartError, match="cannot open"):
        await engine.open()
    (tmp_path / "q.db").rmdir()
    await engine.open()  # it was unlocked
    await engine.close()


async def test_the_writer_refuses_what_it_cannot_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = new_engine(tmp_path)
    monkeypatch.setattr(apart, "PROGRAM", (sys.executable, "-c", REFUSES))
    with pytest.raises(StartError, match=r"cannot open .*: unable to open database file"):
        await engine.open()


REFUSES = """
import os, sys
from ratus.engines.sqlite import writer
os.mkdir(sys.argv[2])
writer.main(int(sys.argv[1]), sys.argv[2])
"""


async def test_payloads_may_be_large(engine: SQLiteEngine) -> None:
    payloads = [b'"' + random.Random(size).randbytes(size).hex().encode() + b'"' for size in (1, 10**5, 3 * 10**6)]
    tasks = [task(str(number), payload) for number, payload in enumerate(payloads)]
    assert await engine.insert(tasks) == [True] * 3
    grants = [rules.grant("c", None, None, times.now()) for _ in tasks]
    claimed = await engine.claim("t", grants, 10**9)
    assert [bytes(one.payload or b"") for one in claimed] == payloads
    commits = [Commit(id=one.id, nonce=one.nonce, state=0, payload=Raw(b"[" + payloads[2] + b"]")) for one in claimed]
    results = await engine.commit(commits)
    assert [one.payload for one in results if isinstance(one, Task)] == [commit.payload for commit in commits]


async def test_errors_of_entries_come_back(engine: SQLiteEngine) -> None:
    await engine.insert([task("1")])
    results = await engine.commit([Commit(id="1", nonce="wrong", state=2), Commit(id="2", state=2)])
    assert [type(result) for result in results] == [NonceMismatch, NotFound]


async def test_a_bug_in_the_writer_is_logged_and_fails_one_call(
    engine: SQLiteEngine, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [engine.insert([task(str(number))]) for number in range(5)]
    bug = engine._writer.run(writes.delete_some, [("nonsense = 1", [])])
    with caplog.at_level(logging.WARNING):
        *inserted, error = await asyncio.gather(*calls, bug, return_exceptions=True)
    assert inserted == [[True]] * 5
    assert isinstance(error, RuntimeError)
    assert "no such column: nonsense" in str(error)
    assert "Traceback" in caplog.text
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == ["a call has failed"]


async def test_the_writer_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        [child] = psutil.Process(server.process.pid).children()
        server.kill()
        child.wait(WAIT)
        server.start()  # the lock of the file is free
        assert psutil.Process(server.process.pid).children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_writer_leaves_signals_to_the_server(engine: SQLiteEngine, number: signal.Signals) -> None:
    """A terminal and some supervisors send them to all processes at once."""
    writer().send_signal(number)
    assert await engine.insert([task("1")]) == [True]


def test_frames_come_in_any_pieces() -> None:
    contents = [b"", b"x", b"y" * 1000, b"[1,2]"]
    stream = b"".join(protocol.frame(Kind.CALLS, content) for content in contents)
    for seed in range(50):
        dice, frames, rest, found = random.Random(seed), Frames(), stream, []
        while rest:
            size = dice.randrange(1, dice.choice((3, 50, 2000)))
            found += frames.take(rest[:size])
            rest = rest[size:]
        assert found == [(Kind.CALLS, content) for content in contents]


def test_states_are_plain_numbers_on_their_way() -> None:
    """Such an entry must not become one that compares otherwise."""
    [call] = protocol.decode_calls(
        protocol.encode_calls([protocol.Call(writes.commit, [Commit(id="1", state=TaskState.ARCHIVED)])])
    )
    assert call.operation is writes.commit
    assert call.entries == [Commit(id="1", state=3)]


async def test_an_engine_whose_writer_is_being_started_can_be_closed(tmp_path: Path) -> None:
    others = set(psutil.Process().children())
    for _ in range(5):
        engine = new_engine(tmp_path)
        await engine.open()
        writer().kill()
        await is_noticed(engine)
        await engine.close()
        assert set(psutil.Process().children()) <= others
