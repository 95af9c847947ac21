"""Consumers and producers as processes of their own that crash, and that stand still and come back late."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from ratus.config import MongoDBSettings
from tests.mongod import replica_set
from tests.reliability.checker import Finding, check
from tests.reliability.client import HELD_MS
from tests.reliability.clients import ClientProcess, end_all
from tests.reliability.history import History, Stored, clock
from tests.reliability.kills import BUSY_SECONDS, new_server
from tests.reliability.load import ANSWER_SECONDS, Load, served
from tests.reliability.report import Report
from tests.reliability.storage import read_mongodb, read_sqlite
from tests.server import Server

KINDS = ("load", "sdk")
LATE = (1.5, 2.5)  # so many times as long as its promises hold, at least and at most, a process stands still


async def consumers(
    directory: Path, server: Server, read: Callable[[], Awaitable[dict[str, Stored]]], rounds: int, seed: int
) -> Report:
    """Kill and freeze processes of clients in turn, beside clients to which nothing happens."""
    dice, history, report = random.Random(seed), History(), Report()
    ended: list[ClientProcess] = []

    def new(kind: str) -> ClientProcess:
        return ClientProcess(directory, kind, server.url, server.target, dice.randrange(2**32))

    await asyncio.to_thread(server.start)
    clients = [new(kind) for kind in KINDS]
    try:
        async with Load([(server.url, server.target)], seed, history).running():
            await served(history, clock(), ANSWER_SECONDS)
            for number in range(rounds):
                place = number // 2 % len(clients)
                victim = clients[place]
                await victim.working()
                await asyncio.sleep(dice.random() * BUSY_SECONDS)
                began = clock()
                if number % 2:
                    victim.freeze()
                    times = await served(history, began, ANSWER_SECONDS)
                    await asyncio.sleep(dice.uniform(*LATE) * HELD_MS / 1000)  # of the fault
                    victim.thaw()
                    report.fault(f"{victim.kind} frozen", **times, back=await victim.working())
                else:
                    victim.kill()
                    ended.append(victim)
                    clients[place] = new(victim.kind)
                    report.fault(f"{victim.kind} killed", **await served(history, began, ANSWER_SECONDS))
        statuses = await end_all(clients)
    finally:
        for client in clients:
            client.close()
        await asyncio.to_thread(server.stop)
    for client in (*ended, *clients):
        history.add(client.history())
    findings = check(history, await read())
    findings += (Finding("client", "", f"ended with status {status}") for status in statuses if status)
    report.close(history, findings)
    return report


async def consumers_sqlite(directory: Path, rounds: int, seed: int) -> Report:
    path = directory / "q.db"
    server = new_server(directory, "--sqlite-path", str(path))
    return await consumers(directory, server, partial(read_sqlite, path), rounds, seed)


async def consumers_mongodb(directory: Path, rounds: int, seed: int) -> Report:
    with replica_set(1, within=directory) as (member,):
        server = new_server(directory, "--engine", "mongodb", "--mongodb-uri", member.uri)
        settings = MongoDBSettings(uri=member.uri)
        return await consumers(directory, server, partial(read_mongodb, settings), rounds, seed)
