"""Rolling restarts: of two servers on one MongoDB and of clients, each drained in turn; and workers that are killed."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from ratus.config import MongoDBSettings
from ratus.model import TaskState
from tests.mongod import replica_set
from tests.reliability.checker import Finding, check
from tests.reliability.clients import ClientProcess, end_all
from tests.reliability.history import History, clock
from tests.reliability.kills import BUSY_SECONDS, new_server
from tests.reliability.links import users_of
from tests.reliability.load import ANSWER_SECONDS, Load, resumed, served, until
from tests.reliability.report import Report
from tests.reliability.storage import read_mongodb
from tests.server import Server

SERVERS = 2
CLIENTS = 2
WORKERS = 2


async def rolling(directory: Path, rounds: int, seed: int) -> Report:
    """Drain a server and start it again, and in the next round a client, in turn."""
    dice, history, report = random.Random(seed), History(), Report()
    ended: list[ClientProcess] = []
    clients: list[ClientProcess] = []
    with replica_set(1, within=directory) as (member,):
        servers = [new_server(directory, "--engine", "mongodb", "--mongodb-uri", member.uri) for _ in range(SERVERS)]
        targets = ",".join(server.target for server in servers)

        def new_client() -> ClientProcess:
            return ClientProcess(directory, "patient", servers[0].url, targets, dice.randrange(2**32))

        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.enter_context(server)
            clients += (new_client() for _ in range(CLIENTS))
            for client in clients:
                stack.callback(client.close)
            load = Load([(server.url, server.target) for server in servers], seed, history)
            async with load.running():
                await resumed(history, load.streams, clock(), ANSWER_SECONDS)
                for number in range(rounds):
                    await asyncio.sleep(dice.random() * BUSY_SECONDS)
                    turn = number // 2
                    if number % 2 == 0:
                        place = turn % SERVERS
                        streams = [name for name in load.streams if name.startswith(f"c{place}-")]
                        await _drain(servers[place], streams, history, report)
                    else:
                        place = turn % CLIENTS
                        await clients[place].working()
                        report.found(_ended_badly(clients[place], await asyncio.to_thread(clients[place].end)))
                        ended.append(clients[place])
                        clients[place] = new_client()
                        stack.callback(clients[place].close)
                        report.fault("client drained", back=await clients[place].working())
            for client, status in zip(clients, await end_all(clients), strict=True):
                report.found(_ended_badly(client, status))
        stored = await read_mongodb(MongoDBSettings(uri=member.uri))
    for client in (*ended, *clients):
        history.add(client.history())
    names = {client.name for client in (*ended, *clients)}
    report.close(history, check(history, stored))
    report.found(
        [
            Finding("drained client", task.id, f"{task.consumer} has left it active")
            for task in stored.values()
            if task.state == TaskState.ACTIVE and task.consumer in names
        ]
    )
    return report


async def _drain(server: Server, streams: Sequence[str], history: History, report: Report) -> None:
    """Have a server end in order and start it again; its streams must be told why they end, and resume."""
    open_streams = {
        one.claim.consumer: one.claim
        for one in history.deliveries[-500:]
        if one.consumer in streams and one.claim.span.end > clock()
    }
    began = clock()
    status = await asyncio.to_thread(server.stop)
    if status:
        report.found([Finding("drain", "", f"a server ended with status {status}")])
    drained = clock()
    meanwhile = await served(history, began, ANSWER_SECONDS)
    await asyncio.to_thread(server.start)
    started = clock()
    report.found(
        [
            Finding("drain", "", f"the stream of {consumer} ended with {claim.span.error}")
            for consumer, claim in open_streams.items()
            if claim.span.end > began and claim.span.error not in ("", "DRAINING", "WRITING")
        ]
    )
    streaming = await resumed(history, streams, started, ANSWER_SECONDS)
    report.fault("server drained", drain=drained - began, start=started - drained, streams=streaming, **meanwhile)


def _ended_badly(client: ClientProcess, status: int) -> list[Finding]:
    return [Finding("client", "", f"{client.name} ended with status {status}")] if status else []


async def workers(directory: Path, rounds: int, seed: int) -> Report:
    """`kill -9` of one of two workers of a server, at random."""
    dice, history, report = random.Random(seed), History(), Report()
    with replica_set(1, within=directory) as (member,):
        settings = ("--engine", "mongodb", "--mongodb-uri", member.uri, "--workers", str(WORKERS))
        server = new_server(directory, *settings)
        await asyncio.to_thread(server.start)
        load = Load([(server.url, server.target)], seed, history)
        try:
            async with load.running():
                await served(history, clock(), ANSWER_SECONDS)
                for _ in range(rounds):
                    await until(lambda: len(_serving(server)) == WORKERS, ANSWER_SECONDS, "workers are not replaced")
                    await asyncio.sleep(dice.random() * BUSY_SECONDS)
                    killed = clock()
                    os.kill(dice.choice(sorted(_serving(server))), signal.SIGKILL)
                    times, streams = await asyncio.gather(
                        served(history, killed, ANSWER_SECONDS),
                        resumed(history, load.streams, killed, ANSWER_SECONDS),
                    )
                    report.fault("worker killed", **times, streams=streams)
        finally:
            await asyncio.to_thread(server.stop)
        stored = await read_mongodb(MongoDBSettings(uri=member.uri))
    report.close(history, check(history, stored))
    return report


def _serving(server: Server) -> set[int]:
    """The workers of a server that listen."""
    return users_of(server.grpc_port, [child.pid for child in psutil.Process(server.process.pid).children()])
