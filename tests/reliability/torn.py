"""Power cuts, of which SQLite's files keep what was synced and any part of what was not."""

import asyncio
import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw

from ratus.errors import StartError, StorageUnavailable
from tests.reliability import launcher, trace
from tests.reliability.checker import Finding, check
from tests.reliability.dial import Dial
from tests.reliability.history import History, Outcome, clock
from tests.reliability.load import ANSWER_SECONDS, Load, served, until
from tests.reliability.report import Report
from tests.reliability.shim import Trouble
from tests.reliability.storage import read_sqlite
from tests.server import Server

CUTS: Final = 60
AT_ONE_MOMENT: Final = 4
COMMITS: Final = (50, 300)  # that a server acknowledges before its disk is looked at
TRACE_BYTES: Final = 200 * 2**20  # after which it is looked at in any case
JOURNAL_BYTES: Final = 256 * 1024  # between checkpoints, which are the moments of interest
TROUBLES: Final = (Trouble.NONE, Trouble.SOME_SYNCS, Trouble.SOME_WRITES)  # of one server after the other
BEGINNING: Final = 300  # operations, in which the schema is made


async def torn_writes(
    directory: Path, rounds: int, seed: int, *, cuts: int = CUTS, unsynced: str | None = None
) -> Report:
    """Let servers work, then look at what power cuts at any moment of that would have left: so many of each server.

    Two of three meet syncs or writes that fail now and then. Files of the kind `unsynced` are only
    said to be synced.
    """
    dice, report, number = random.Random(seed), Report(), 0
    troubles = itertools.cycle(TROUBLES)
    while (left := rounds - report.faults.total()) > 0:
        home = directory / f"life-{number}"
        home.mkdir()
        history = History()
        await _work(home, history, dice, next(troubles), unsynced)
        for moment, path in _cuts(home, dice, history, min(cuts, left)):
            report.found(await _judged(path, history.until(moment)))
            report.fault("cut")
        report.close(history, check(history, await read_sqlite(home / "q.db")))
        shutil.rmtree(home)
        number += 1
    return report


async def _work(home: Path, history: History, dice: random.Random, trouble: Trouble, unsynced: str | None) -> None:
    """Let a server work for a while; what it told the disk is in `trace` then."""
    path, dial = home / "q.db", Dial(home / "trouble")
    env = {
        launcher.DISK: str(path),
        launcher.JOURNAL_BYTES: str(JOURNAL_BYTES),
        launcher.TRACE: str(home / "trace"),
        launcher.TROUBLE: str(dial.path),
        **({} if unsynced is None else {launcher.UNSYNCED: unsynced}),
    }
    options = ("--sqlite-path", str(path), "--chore-interval", "1s", "--log-level", "error")
    server = Server(home / "server.log", *options, env=env, program=launcher.PROGRAM)

    enough = dice.randint(*COMMITS)

    def worked() -> bool:
        if os.path.getsize(home / "trace") > TRACE_BYTES:
            return True
        return sum(one.span.outcome is Outcome.OK for one in history.commits) >= enough

    await asyncio.to_thread(server.start)
    try:
        async with Load([(server.url, server.target)], dice.randrange(2**32), history).running():
            await served(history, clock(), ANSWER_SECONDS)
            dial.set(trouble)
            await until(worked, ANSWER_SECONDS, "commits")
            dial.set(Trouble.NONE)
    finally:
        await asyncio.to_thread(server.stop)


def _cuts(home: Path, dice: random.Random, history: History, count: int) -> Iterator[tuple[float, Path]]:
    """So many cuts: the moment of each, and the database as it may be then."""
    operations = list(trace.read(home / "trace"))
    places = sorted(_place(operations, dice, history) for _ in range(-(-count // AT_ONE_MOMENT)))
    disk, done = trace.Disk(dice), 0
    for place, operation in enumerate(operations):
        while places and places[0] == place:  # all before this one was begun
            places.pop(0)
            for _ in range(min(AT_ONE_MOMENT, count - done)):
                cut = home / "cut"
                cut.mkdir()
                disk.cut(cut / "q.db")
                yield operation.moment, cut / "q.db"
                shutil.rmtree(cut)
                done += 1
        disk.apply(operation)


def _place(operations: list[trace.Operation], dice: random.Random, history: History) -> int:
    """A place in what was done: any, one at a checkpoint, or one while the schema was made."""
    first = min(one.span.end for one in history.inserts if one.span.outcome is Outcome.OK)
    working = next(place for place, one in enumerate(operations) if one.moment >= first)
    fate = dice.random()
    if fate < 0.1:
        return dice.randrange(min(BEGINNING, len(operations)))
    place = dice.randrange(working, len(operations))
    if fate < 0.5:
        at_database = [p for p in range(working, len(operations)) if operations[p].file == trace.DATABASE]
        place = dice.choice(at_database or [place]) + dice.randint(-3, 3)
    return min(max(place, 0), len(operations) - 1)


async def _judged(path: Path, known: History) -> list[Finding]:
    try:
        return check(known, await read_sqlite(path))
    except (StartError, StorageUnavailable, AssertionError, apsw.Error) as error:
        return [Finding("unsound", "", f"{type(error).__name__}: {error}")]
