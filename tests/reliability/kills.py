"""`kill -9` of the server at random moments under load, on SQLite or MongoDB, and what a power cut leaves of SQLite."""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.reliability.checker import check
from tests.reliability.history import History, Stored, clock
from tests.reliability.load import Load, served
from tests.reliability.report import Report
from tests.reliability.storage import read_sqlite
from tests.server import Server

ANSWER_SECONDS = 60
BUSY_SECONDS = 0.7  # most of what a server works between two faults


def new_server(directory: Path, *args: str) -> Server:
    return Server(directory / "server.log", *args, "--chore-interval", "1s", "--log-level", "warning")


async def kills(server: Server, read: Callable[[], Awaitable[dict[str, Stored]]], rounds: int, seed: int) -> Report:
    """Kill and start again so many times, then check."""
    dice, history, report = random.Random(seed), History(), Report()
    await asyncio.to_thread(server.start)
    try:
        async with Load([(server.url, server.target)], seed, history).running():
            await served(history, clock(), ANSWER_SECONDS)
            for _ in range(rounds):
                await asyncio.sleep(dice.random() * BUSY_SECONDS)
                killed = clock()
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                started = clock() - killed
                report.fault("kill", start=started, **await served(history, killed, ANSWER_SECONDS))
    finally:
        await asyncio.to_thread(server.stop)
    report.close(history, check(history, await read()))
    return report


async def power_cuts(directory: Path, rounds: int, seed: int) -> Report:
    """Copy the files of a server that stands still, and check that each copy opens and has what was acknowledged.

    While the server stands, the files are what its writes have made of them; all that it has acknowledged was synced
    before. The log is copied after the database, which without a checkpoint in between makes no difference.
    """
    dice, history, report = random.Random(seed), History(), Report()
    path = directory / "q.db"
    server = new_server(directory, "--sqlite-path", str(path))
    await asyncio.to_thread(server.start)
    try:
        async with Load([(server.url, server.target)], seed, history).running():
            await served(history, clock(), ANSWER_SECONDS)
            for number in range(rounds):
                await asyncio.sleep(dice.random() * BUSY_SECONDS)
                frozen = clock()
                os.kill(server.process.pid, signal.SIGSTOP)
                try:
                    copy = _copy(path, directory / f"cut-{number}")
                finally:
                    os.kill(server.process.pid, signal.SIGCONT)
                known = history.until(frozen)
                findings = check(known, await read_sqlite(copy))
                report.found(findings)
                shutil.rmtree(copy.parent)
                report.fault("cut", **await served(history, clock(), ANSWER_SECONDS))
    finally:
        await asyncio.to_thread(server.stop)
    report.close(history, check(history, await read_sqlite(path)))
    return report


def _copy(path: Path, directory: Path) -> Path:
    directory.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        shutil.copyfile(path.parent / name, directory / name)
    return directory / path.name
