"""`kill -9` at random moments under load, of a server or of its writer, and what a power cut leaves of SQLite."""

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import psutil

from tests.reliability.checker import check
from tests.reliability.history import History, Stored, clock
from tests.reliability.load import ANSWER_SECONDS, served, under_load, until
from tests.reliability.report import Report
from tests.reliability.storage import read_sqlite
from tests.server import Server

BUSY_SECONDS = 0.7  # most of what a server works between two faults


def new_server(directory: Path, *args: str) -> Server:
    return Server(directory / "server.log", *args, "--chore-interval", "1s", "--log-level", "warning")


async def kills(server: Server, read: Callable[[], Awaitable[dict[str, Stored]]], rounds: int, seed: int) -> Report:
    """Kill and start again so many times, then check."""

    async def kill() -> dict[str, float]:
        killed = clock()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        return {"start": clock() - killed}

    return await _kills(server, kill, read, rounds, seed)


async def writer_kills(directory: Path, rounds: int, seed: int) -> Report:
    """Kill the process that writes the file of a server, which has to start a new one by itself."""
    path = directory / "q.db"
    server = new_server(directory, "--sqlite-path", str(path))

    async def kill() -> dict[str, float]:
        _writer(server).kill()
        return {}

    return await _kills(server, kill, partial(read_sqlite, path), rounds, seed)


async def _kills(
    server: Server,
    kill: Callable[[], Awaitable[dict[str, float]]],
    read: Callable[[], Awaitable[dict[str, Stored]]],
    rounds: int,
    seed: int,
) -> Report:
    dice, history, report = random.Random(seed), History(), Report()
    async with under_load(server, seed, history):
        for _ in range(rounds):
            await asyncio.sleep(dice.random() * BUSY_SECONDS)
            killed = clock()
            times = await kill()
            report.fault("kill", **times, **await served(history, killed, ANSWER_SECONDS))
    report.close(history, check(history, await read()))
    return report


async def power_cuts(directory: Path, rounds: int, seed: int) -> Report:
    """Copy the files of a server that stands still, and check that each copy opens and has what was acknowledged.

    While its writer stands, the files are what its writes have made of them; all that it has acknowledged was synced
    before. The log is copied after the database, which without a checkpoint in between makes no difference.
    """
    dice, history, report = random.Random(seed), History(), Report()
    path = directory / "q.db"
    server = new_server(directory, "--sqlite-path", str(path))
    async with under_load(server, seed, history):
        for number in range(rounds):
            await asyncio.sleep(dice.random() * BUSY_SECONDS)
            writer = _writer(server)
            frozen = clock()
            writer.suspend()
            try:
                await until(lambda writer=writer: _stands(writer), ANSWER_SECONDS, "the writer runs on")
                copy = _copy(path, directory / f"cut-{number}")
            finally:
                writer.resume()
            known = history.until(frozen)
            findings = check(known, await read_sqlite(copy))
            report.found(findings)
            shutil.rmtree(copy.parent)
            report.fault("cut", **await served(history, clock(), ANSWER_SECONDS))
    report.close(history, check(history, await read_sqlite(path)))
    return report


def _writer(server: Server) -> psutil.Process:
    [writer] = psutil.Process(server.process.pid).children()
    return writer


def _stands(process: psutil.Process) -> bool:
    return {psutil.Process(thread.id).status() for thread in process.threads()} == {psutil.STATUS_STOPPED}


def _copy(path: Path, directory: Path) -> Path:
    directory.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        shutil.copyfile(path.parent / name, directory / name)
    return directory / path.name
