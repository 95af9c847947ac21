"""Backups of a server under load, restored, judged, and worked on with; and some that are interrupted."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
from pymongo import MongoClient

from ratus.config import MongoDBSettings
from tests.mongod import Mongod, replica_set
from tests.reliability.checker import check
from tests.reliability.hands import Unary
from tests.reliability.history import History, Insert, Span, Stored, clock
from tests.reliability.interrupted import AGAIN_SECONDS, backed_up, interrupt
from tests.reliability.kills import BUSY_SECONDS, new_server
from tests.reliability.load import ANSWER_SECONDS, TOPIC, Load, served, until
from tests.reliability.report import Report
from tests.reliability.restored import go_on, judge_copy
from tests.reliability.storage import read_mongodb, read_sqlite
from tests.server import Server, run

FILLER: Final = "filler"  # a topic of tasks that nobody takes, so that a copy takes a while
FILLERS: Final = 4_000
FILLER_BYTES: Final = 10_000
BATCH: Final = 500
BURST: Final = 300
NEVER: Final = 10**11  # ms until a filler is due
Read = Callable[[], Awaitable[dict[str, Stored]]]


@dataclass
class Backups:
    """A server under load, and what became of its copies."""

    directory: Path
    server: Server
    history: History
    report: Report
    dice: random.Random
    number: int = 0

    async def judge(self, name: str, begin: float, end: float, server: Server, read: Read, *, one_moment: bool) -> None:
        """Judge what a server on the copy would find, and let it go on from there."""
        stored = await read()
        self.report.found(judge_copy(self.history, stored, begin, end, one_moment=one_moment))
        went_on, findings = await go_on(server, stored, read)
        self.report.found(findings)
        self.report.fault(name, took=end - begin)
        self.report.restored += len(stored)
        self.report.finished += len(went_on.inserts)

    async def burst(self) -> None:
        """Insert more than the load can do at once, so that a copy has tasks in it that are to be done."""
        hands = Unary(self.server.target, self.history)
        ids = [f"burst-{self.number}-{number}" for number in range(BURST)]
        await hands.insert([Insert(id, TOPIC, f'"{id}"', None, Span()) for id in ids])
        await hands.close()

    def new_place(self) -> Path:
        self.number += 1
        place = self.directory / f"restored-{self.number}"
        place.mkdir()
        return place


@contextlib.asynccontextmanager
async def loaded(directory: Path, server: Server, read: Read, seed: int) -> AsyncIterator[Backups]:
    """Load on a server that has something to copy; in the end what it has done itself is checked."""
    backups = Backups(directory, server, History(), Report(), random.Random(seed))
    await asyncio.to_thread(server.start)
    try:
        await _fill(server, backups.history)
        async with Load([(server.url, server.target)], seed, backups.history).running():
            await served(backups.history, clock(), ANSWER_SECONDS)
            yield backups
    finally:
        await asyncio.to_thread(server.stop)
    backups.report.close(backups.history, check(backups.history, await read()))


async def _fill(server: Server, history: History) -> None:
    hands = Unary(server.target, history)
    scheduled = int(clock()) + NEVER
    for begin in range(0, FILLERS, BATCH):
        ids = [f"filler-{number}" for number in range(begin, begin + BATCH)]
        await hands.insert([Insert(id, FILLER, f'"{id}{"x" * FILLER_BYTES}"', scheduled, Span()) for id in ids])
    await hands.close()


async def backups_sqlite(directory: Path, rounds: int, seed: int) -> Report:
    """Copy with `ratus backup` so many times, each time after one that is interrupted."""
    home = directory / "home"
    home.mkdir()
    path = home / "q.db"
    server = new_server(directory, "--sqlite-path", str(path))
    async with loaded(directory, server, partial(read_sqlite, path), seed) as backups:
        for number in range(rounds):
            await asyncio.sleep(backups.dice.random() * BUSY_SECONDS)
            place = backups.new_place()
            copy = place / "q.db"
            await _interrupted_backup(backups, copy, kill_server=bool(number % 2))
            await backups.burst()
            begin = clock()
            await backed_up(server, copy)
            end = clock()
            assert [name for name in os.listdir(home) if name.startswith(".")] == [], "left beside the database"
            read = partial(read_sqlite, copy)
            restored = new_server(place, "--sqlite-path", str(copy))
            await backups.judge("backup", begin, end, restored, read, one_moment=True)
            shutil.rmtree(place)
            await served(backups.history, clock(), ANSWER_SECONDS)
    return backups.report


async def _interrupted_backup(backups: Backups, file: Path, *, kill_server: bool) -> None:
    def unfinished() -> int:
        return sum(_size(path) for path in file.parent.glob(f".{file.name}.*"))

    await _interrupt(backups, ("backup", str(file)), file, unfinished, kill_server=kill_server)


async def _interrupt(
    backups: Backups, command: tuple[str, ...], file: Path, unfinished: Callable[[], int], *, kill_server: bool
) -> None:
    least = FILLERS * FILLER_BYTES
    name = "interrupted: " + ("server killed" if kill_server else "client killed")
    async with asyncio.timeout(AGAIN_SECONDS * 5):
        while (
            found := await interrupt(backups.server, command, file, unfinished, least, kill_server=kill_server)
        ) is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)  # it was complete
    backups.report.found(found)
    backups.report.fault(name)
    await served(backups.history, clock(), ANSWER_SECONDS)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def backups_mongodb(directory: Path, rounds: int, seed: int) -> Report:
    """In turn a snapshot of the disk, and an export that was interrupted at first."""
    with replica_set(within=directory) as [member]:
        server = new_server(directory, "--engine", "mongodb", "--mongodb-uri", member.uri)
        read = partial(read_mongodb, MongoDBSettings(uri=member.uri))
        async with loaded(directory, server, read, seed) as backups:
            for number in range(rounds):
                await asyncio.sleep(backups.dice.random() * BUSY_SECONDS)
                if number % 2:
                    await _export(backups, member, kill_server=bool(number // 2 % 2))
                else:
                    await _snapshot(backups, member)
                await served(backups.history, clock(), ANSWER_SECONDS)
        return backups.report


async def _snapshot(backups: Backups, member: Mongod) -> None:
    """Copy the files of a mongod that stands still, as a volume would, and start another one on them."""
    place = backups.new_place()
    await backups.burst()
    begin = clock()
    os.kill(member.pid, signal.SIGSTOP)
    try:
        await until(lambda: psutil.Process(member.pid).status() == psutil.STATUS_STOPPED, ANSWER_SECONDS, "it runs on")
        end = clock()
        shutil.copytree(member.data, place / "data")
    finally:
        os.kill(member.pid, signal.SIGCONT)
    (place / "data" / "mongod.lock").unlink()
    recover = ("recoverFromOplogAsStandalone=true", "takeUnstableCheckpointOnShutdown=true")
    options = [part for one in recover for part in ("--setParameter", one)]
    copy = Mongod(directory=place, options=options)
    try:
        await asyncio.to_thread(copy.start)  # brings in what only the oplog has, and takes no writes
        await asyncio.to_thread(copy.stop)
    finally:
        copy.client.close()
    copy = Mongod(directory=place)
    try:
        await asyncio.to_thread(copy.start)
        read = partial(read_mongodb, MongoDBSettings(uri=copy.uri))
        restored = new_server(place, "--engine", "mongodb", "--mongodb-uri", copy.uri)
        await backups.judge("snapshot", begin, end, restored, read, one_moment=True)
    finally:
        await asyncio.to_thread(copy.close)


async def _export(backups: Backups, member: Mongod, *, kill_server: bool) -> None:
    """`ratus export`, which is resumed when it was interrupted, and `ratus import` into a database of its own."""
    place = backups.new_place()
    file = place / "tasks.ndjson"
    part = file.with_name(f"{file.name}.part")
    await backups.burst()
    begin = clock()
    await _interrupt(backups, ("export", str(file)), file, lambda: _size(part), kill_server=kill_server)
    await _done("export", str(file), "--resume", "--target", backups.server.target)
    end = clock()
    settings = MongoDBSettings(uri=member.uri, database=f"restored{backups.number}")
    args = ("--engine", "mongodb", "--mongodb-uri", member.uri, "--mongodb-database", settings.database)
    restored = new_server(place, *args, "--chore-interval", "0")
    await asyncio.to_thread(restored.start)
    try:
        await _done("import", str(file), "--target", restored.target)
    finally:
        await asyncio.to_thread(restored.stop)
    served_by = new_server(place, *args)
    await backups.judge("export", begin, end, served_by, partial(read_mongodb, settings), one_moment=False)
    with MongoClient[dict[str, Any]](member.uri) as client:
        client.drop_database(settings.database)
    shutil.rmtree(place)


async def _done(*command: str) -> None:
    done = await asyncio.to_thread(run, *command, timeout=AGAIN_SECONDS)
    assert done.returncode == 0, done.stderr
