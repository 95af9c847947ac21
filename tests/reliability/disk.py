"""A disk that is full or fails, under load, and is well again: nothing lost, and nobody has to start anything anew."""

import asyncio
import contextlib
import itertools
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx

from tests.reliability import launcher
from tests.reliability.checker import Finding, check
from tests.reliability.dial import Dial
from tests.reliability.history import History, Outcome, clock
from tests.reliability.load import ANSWER_SECONDS, TOPIC, served, under_load, until
from tests.reliability.report import Report
from tests.reliability.shim import Trouble
from tests.reliability.storage import read_sqlite
from tests.server import Server

READ_SECONDS: Final = 10
JOURNAL_BYTES: Final = 64 * 1024  # between checkpoints, so that files grow all the time
GROWN: Final = 4  # times as large as it should be, a log whose checkpoints fail
HELD_SECONDS: Final = 0.5  # mean time that the trouble stays once it was noticed
TMPFS: Final = "64m"
TROUBLES: Final = (Trouble.FULL, Trouble.LOG_SYNCS, Trouble.DATABASE_FULL, Trouble.WRITES)


async def disk_full(directory: Path, rounds: int, seed: int) -> Report:
    """A shim under SQLite lets files not grow, not be written or the log not be synced, one trouble after the other."""
    path, dial = directory / "q.db", Dial(directory / "trouble")
    server = _server(directory, path, {launcher.DISK: str(path), launcher.TROUBLE: str(dial.path)})
    log = path.with_name("q.db-wal")
    troubles = itertools.cycle(TROUBLES)

    @contextlib.contextmanager
    def trouble() -> Iterator[str]:
        kind = next(troubles)
        dial.set(kind)
        try:
            yield kind.name.lower().replace("_", " ")
        finally:
            dial.set(Trouble.NONE)

    def grown() -> bool:
        return dial.get() == Trouble.DATABASE_FULL and os.path.getsize(log) > GROWN * JOURNAL_BYTES

    return await _troubles(server, path, trouble, grown, rounds, seed)


async def tmpfs_full(directory: Path, rounds: int, seed: int) -> Report:
    """A file of somebody else fills a real file system, and is removed; takes root."""
    with small_file_system(directory / "disk") as disk:
        path, ballast = disk / "q.db", disk / "ballast"

        @contextlib.contextmanager
        def trouble() -> Iterator[str]:
            try:
                with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(4096))
                yield "tmpfs full"
            finally:
                ballast.unlink()

        return await _troubles(_server(directory, path, {}), path, trouble, lambda: False, rounds, seed)


@contextlib.contextmanager
def small_file_system(path: Path) -> Iterator[Path]:
    """One in memory that can be filled; CalledProcessError where it cannot be mounted."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def _server(directory: Path, path: Path, env: dict[str, str]) -> Server:
    options = ("--sqlite-path", str(path), "--chore-interval", "1s", "--log-level", "error")
    env = {launcher.JOURNAL_BYTES: str(JOURNAL_BYTES), **env}
    return Server(directory / "server.log", *options, env=env, program=launcher.PROGRAM)


async def _troubles(
    server: Server,
    path: Path,
    trouble: Callable[[], contextlib.AbstractContextManager[str]],
    noticed: Callable[[], bool],
    rounds: int,
    seed: int,
) -> Report:
    """Have trouble so many times, each until calls fail or it was noticed otherwise, then check."""
    dice, history, report = random.Random(seed), History(), Report()
    async with under_load(server, seed, history):
        for _ in range(rounds):
            await asyncio.sleep(dice.random() * HELD_SECONDS)
            begun = len(history.inserts)
            with trouble() as name:
                await until(
                    lambda begun=begun: noticed() or _failed(history, begun),
                    ANSWER_SECONDS,
                    f"{name}: no call fails",
                )
                report.found(await _unreadable(server.url, history))
                await asyncio.sleep(dice.random() * 2 * HELD_SECONDS)
            well = clock()
            report.fault(name, **await served(history, well, ANSWER_SECONDS))
    report.close(history, check(history, await read_sqlite(path)))
    return report


def _failed(history: History, begun: int) -> bool:
    return any(one.span.error == "STORAGE_UNAVAILABLE" for one in history.inserts[begun:])


async def _unreadable(url: str, history: History) -> list[Finding]:
    """What cannot be read while nothing can be written."""
    known = next(one.id for one in reversed(history.inserts) if one.span.outcome is Outcome.OK)
    async with httpx.AsyncClient(base_url=f"{url}/v1/topics/{TOPIC}", timeout=READ_SECONDS, trust_env=False) as client:
        answer = await client.get(f"/tasks/{known}")
    return [] if answer.status_code == 200 else [Finding("unreadable", known, f"{answer.status_code}: {answer.text}")]
