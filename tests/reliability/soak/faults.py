"""What is done to the server and its clients while they work; each returns when it is done."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import grpc

from tests.mongod import Mongod
from tests.reliability.databases import FAILOVERS, Set
from tests.reliability.hands import CALL_SECONDS, CHANNEL, delivery
from tests.reliability.history import Claim, History, Span, clock
from tests.reliability.report import Report
from tests.reliability.soak.consumer import poll_request
from tests.reliability.soak.crew import Crew
from tests.reliability.soak.log import Log
from tests.rpc.serving import Client
from tests.server import Server

FROZEN_SECONDS: Final = 1.0
START_SECONDS: Final = 90
STREAMS: Final = 50  # that are opened and dropped
DROP_SECONDS: Final = 0.3  # most that one of them listens


@dataclass(frozen=True)
class Scene:
    """What faults can be done to."""

    server: Server
    crew: Crew
    members: list[Mongod]
    dice: random.Random


async def start(server: Server) -> None:
    """Start the server; TimeoutError if it does not serve."""
    try:
        async with asyncio.timeout(START_SECONDS):
            await asyncio.to_thread(server.start)
    except TimeoutError:
        server.process.kill()  # so that the thread that reads its line ends
        raise


async def kill(scene: Scene) -> None:
    """End the server as a crash would, and start it again."""
    await asyncio.to_thread(scene.server.kill)
    await start(scene.server)


async def freeze(scene: Scene) -> None:
    """Let the server stand still for a moment."""
    os.kill(scene.server.process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        os.kill(scene.server.process.pid, signal.SIGCONT)


async def kill_consumer(scene: Scene) -> None:
    """Kill a process full of consumers, with what they hold."""
    await asyncio.to_thread(scene.crew.kill_one, scene.dice.randrange(len(scene.crew.consumers)))


async def drop_streams(scene: Scene) -> None:
    """Open streams, listen for a moment, and go away without a word, some with what they were handed."""
    log = scene.crew.new_log(f"fickle{clock():.0f}")
    try:
        async with Client(scene.server.target, CHANNEL) as client:
            await asyncio.gather(*(_drop(client, log, number, scene.dice) for number in range(STREAMS)))
    finally:
        log.close()


async def _drop(client: Client, log: Log, number: int, dice: random.Random) -> None:
    await asyncio.sleep(dice.random())
    consumer, topic = f"fickle{clock():.0f}-{number}", dice.choice(("poll", "work"))
    claim = Claim(consumer, (topic,), Span(), releases=dice.random() < 0.5)
    log.write([claim])
    call = client.promises.Poll(poll_request(topic, consumer, 10, claim.releases))
    read = asyncio.ensure_future(call.read())
    await asyncio.wait([read], timeout=dice.random() * DROP_SECONDS)  # which does not cancel it: see the end below
    if read.done():
        with contextlib.suppress(grpc.aio.AioRpcError):
            if (message := read.result()) is not grpc.aio.EOF:
                log.write([delivery(task, claim) for task in message.tasks])
    claim.span.end = clock()  # before anything tells the server
    call.cancel()
    log.write([claim])
    await asyncio.wait([read], timeout=CALL_SECONDS)


async def step_down(scene: Scene) -> None:
    """Let the primary step down."""
    primary = await Set(scene.members, History(), Report(), scene.dice).the_primary()
    await asyncio.to_thread(dict(FAILOVERS)["stepped down"], primary)


Fault = Callable[[Scene], Awaitable[None]]
CALM: Final[dict[str, Fault]] = {"freeze": freeze, "consumer killed": kill_consumer, "streams dropped": drop_streams}
KILL: Final[dict[str, Fault]] = {"server killed": kill}
STEP_DOWN: Final[dict[str, Fault]] = {"step-down": step_down}


def plan(count: int, mongodb: bool) -> list[tuple[str, Fault]]:
    """So many faults in turn; the server is killed in the first third, and memory is seen of one process afterwards."""
    cycle = CALM | (STEP_DOWN if mongodb else {})
    early = list((KILL | cycle).items())
    late = list(cycle.items())
    first = -(-count // 3)
    return [early[n % len(early)] for n in range(first)] + [late[(n - 1) % len(late)] for n in range(first, count)]
