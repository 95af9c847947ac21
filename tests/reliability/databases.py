"""A replica set whose primary is killed, steps down or stands still, and commands of MongoDB that fail, under load."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from ratus.config import MongoDBSettings
from tests.mongod import Mongod, replica_set
from tests.reliability.checker import check
from tests.reliability.history import History, clock
from tests.reliability.kills import BUSY_SECONDS, new_server
from tests.reliability.load import ANSWER_SECONDS, Load, served
from tests.reliability.report import Report
from tests.reliability.storage import read_mongodb

COMMANDS = ("find", "insert", "update", "findAndModify", "aggregate", "getMore", "delete", "hello", "ping")
CLIENT = "reliability"  # the name by which fail points know the server
MEMBERS = 3


@dataclass(frozen=True)
class Set:
    """The members, and the server that works on them."""

    members: list[Mongod]
    history: History
    report: Report
    dice: random.Random

    def primary(self) -> Mongod | None:
        """The one that says so of itself."""
        for member in self.members:
            with contextlib.suppress(PyMongoError):
                if member.client.admin.command("hello")["isWritablePrimary"]:
                    return member
        return None

    async def the_primary(self) -> Mongod:
        found: list[Mongod] = []

        async def look() -> bool:
            found[:] = [one] if (one := await asyncio.to_thread(self.primary)) else []
            return bool(found)

        async with asyncio.timeout(ANSWER_SECONDS):
            while not await look():  # noqa: ASYNC110 (nobody would tell)
                await asyncio.sleep(0.1)
        return found[0]

    async def elected(self, primary: Mongod, since: float) -> float:
        """After how many ms another member took a write that a majority has, which is no work of the service."""
        others = replace(self, members=[member for member in self.members if member is not primary])
        concern = WriteConcern("majority", wtimeout=int(ANSWER_SECONDS * 1000))
        elected = await others.the_primary()
        probes = elected.client.get_database("probe").get_collection("probes", write_concern=concern)
        await asyncio.to_thread(probes.insert_one, {})
        return clock() - since


@contextlib.asynccontextmanager
async def loaded(directory: Path, members: int, seed: int) -> AsyncIterator[Set]:
    """A server under load on a replica set; in the end, what it has done is checked."""
    history, report = History(), Report()
    with replica_set(members, within=directory) as started:
        hosts = ",".join(member.address for member in started)
        uri = f"mongodb://{hosts}/?replicaSet={started[0].replica_set}&appName={CLIENT}"
        async with under_load(directory, uri, seed, history, report):
            yield Set(started, history, report, random.Random(seed))


@contextlib.asynccontextmanager
async def under_load(directory: Path, uri: str, seed: int, history: History, report: Report) -> AsyncIterator[Load]:
    """A server under load on this MongoDB; in the end, what it has done is checked."""
    server = new_server(directory, "--engine", "mongodb", "--mongodb-uri", uri)
    await asyncio.to_thread(server.start)
    try:
        load = Load([(server.url, server.target)], seed, history)
        async with load.running():
            await served(history, clock(), ANSWER_SECONDS)
            yield load
    finally:
        await asyncio.to_thread(server.stop)
    report.close(history, check(history, await read_mongodb(MongoDBSettings(uri=uri))))


async def failovers(directory: Path, rounds: int, seed: int) -> Report:
    """Take the primary away in turn: killed, told to step down, frozen for longer than an election takes."""
    async with loaded(directory, MEMBERS, seed) as the_set:
        for number in range(rounds):
            primary = await the_set.the_primary()
            await asyncio.sleep(the_set.dice.random() * BUSY_SECONDS)
            name, fault = FAILOVERS[number % len(FAILOVERS)]
            began = clock()
            mend = await asyncio.to_thread(fault, primary)
            times, elected = await asyncio.gather(
                served(the_set.history, began, ANSWER_SECONDS), the_set.elected(primary, began)
            )
            later = {f"{what} after the election": took - elected for what, took in times.items()}
            the_set.report.fault(name, **times, election=elected, **later)
            await asyncio.to_thread(mend)
            await until_all_follow(the_set)
    return the_set.report


async def until_all_follow(the_set: Set) -> None:
    """Wait until every member is primary or follows it, so that the next fault meets a whole set."""

    def whole() -> bool:
        with contextlib.suppress(PyMongoError):
            for member in the_set.members:
                hello = member.client.admin.command("hello")
                if not (hello["isWritablePrimary"] or hello["secondary"]):
                    return False
            return the_set.primary() is not None
        return False

    async with asyncio.timeout(ANSWER_SECONDS):
        while not await asyncio.to_thread(whole):  # noqa: ASYNC110 (nobody would tell)
            await asyncio.sleep(0.1)


def _kill(primary: Mongod) -> Callable[[], object]:
    primary.kill()
    return primary.start


def _step_down(primary: Mongod) -> Callable[[], object]:
    primary.client.admin.command({"replSetStepDown": 5, "force": True})
    return lambda: None


def _freeze(primary: Mongod) -> Callable[[], object]:
    os.kill(primary.pid, signal.SIGSTOP)
    return lambda: os.kill(primary.pid, signal.SIGCONT)


FAILOVERS = (("killed", _kill), ("stepped down", _step_down), ("frozen", _freeze))
FAILURES = (
    ("closed", {"closeConnection": True}),
    ("interrupted at shutdown", {"errorCode": 11600}),
    ("not primary", {"errorCode": 10107}),
    ("stepped down", {"errorCode": 189}),
    ("write concern", {"writeConcernError": {"code": 91, "errmsg": "shutdown in progress"}}),
)


async def failing_commands(directory: Path, rounds: int, seed: int, commands: Sequence[str] = COMMANDS) -> Report:
    """Let every command that the server uses fail in every way, a few times in a row, in so many rounds."""
    async with loaded(directory, 1, seed) as the_set:
        (member,) = the_set.members
        for _ in range(rounds):
            for command in commands:
                for way, data in FAILURES:
                    times = the_set.dice.randint(1, 4)
                    began = clock()
                    await asyncio.to_thread(member.fail, [command], times=times, appName=CLIENT, **data)
                    again = await served(the_set.history, began, ANSWER_SECONDS)
                    await asyncio.to_thread(member.heal)
                    the_set.report.fault(way, **again)
    return the_set.report
