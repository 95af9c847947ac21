"""The same work with any queue: insert, take, acknowledge.

singly: 32 callers, each with one task after the other; batched: producers and consumers at once, 100 tasks at a time;
both print full tasks a second. dispatch: a task now and then to an idle consumer; prints p50 and p99 of the
milliseconds from the begin of the insert to the arrival. `python -m bench.load.drive CLIENT MODE ADDRESS SECONDS`
"""

import asyncio
import importlib
import random
import statistics
import struct
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import uvloop

from bench.load.calls import PAYLOAD
from bench.load.clients import Client, Connect

CALLERS = 32
BATCH = 100
PAIRS = 4  # producers, and as many consumers
AHEAD = 20_000  # tasks that may be inserted and not acknowledged
WARM_UP = 1.0  # seconds
INTERVAL = 0.04  # seconds between two dispatches
WINDOW = 10  # tasks that an idle consumer may be given at once
LEAST = 2  # dispatches that have a median
LEAST_TASKS = 32  # before a rate is told, however long they take
LEAST_SECONDS = 60
CLOCK = struct.Struct("d")


class Count:
    """How many tasks have come how far."""

    def __init__(self) -> None:
        self.inserted = self.acknowledged = 0
        self.room = asyncio.Event()

    async def wait_for_room(self) -> None:
        while self.inserted - self.acknowledged >= AHEAD:
            self.room.clear()
            await self.room.wait()

    def acknowledge(self, number: int) -> None:
        self.acknowledged += number
        self.room.set()


async def call(client: Client, count: Count) -> None:
    while True:
        await client.put([PAYLOAD])
        count.inserted += 1
        taken = await client.take(1)
        await client.done([handle for handle, _ in taken])
        count.acknowledge(len(taken))


async def produce(client: Client, count: Count) -> None:
    while True:
        await count.wait_for_room()
        await client.put([PAYLOAD] * BATCH)
        count.inserted += BATCH


async def consume(client: Client, count: Count) -> None:
    while True:
        taken = await client.take(BATCH)
        await client.done([handle for handle, _ in taken])
        count.acknowledge(len(taken))


async def rate(parts: Sequence[Coroutine[Any, Any, None]], count: Count, seconds: float) -> float:
    """The lesser of what is inserted and acknowledged a second; what a part raises."""
    tasks = [asyncio.create_task(part) for part in parts]
    await asyncio.wait(tasks, timeout=WARM_UP, return_when=asyncio.FIRST_EXCEPTION)
    inserted, acknowledged, begin = count.inserted, count.acknowledged, time.perf_counter()
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    while (full := min(count.inserted - inserted, count.acknowledged - acknowledged)) < LEAST_TASKS and not done:
        if time.perf_counter() > begin + seconds + LEAST_SECONDS:
            raise TimeoutError(f"{full} tasks in {LEAST_SECONDS} s")
        done, _ = await asyncio.wait(tasks, timeout=INTERVAL, return_when=asyncio.FIRST_EXCEPTION)
    spent = time.perf_counter() - begin
    await end(tasks)
    for task in done:
        task.result()
    return full / spent


async def end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they are done, as a client may swallow a cancellation."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=WARM_UP)


async def singly(connect: Connect, address: str, seconds: float) -> list[float]:
    count = Count()
    async with connect(address, CALLERS, CALLERS) as clients:
        return [await rate([call(client, count) for client in clients], count, seconds)]


async def batched(connect: Connect, address: str, seconds: float) -> list[float]:
    count = Count()
    async with connect(address, 2 * PAIRS, BATCH) as clients:
        parts = [produce(client, count) for client in clients[:PAIRS]]
        return [await rate([*parts, *(consume(client, count) for client in clients[PAIRS:])], count, seconds)]


async def dispatch(connect: Connect, address: str, seconds: float) -> list[float]:
    spent: list[float] = []

    async def listen(client: Client) -> None:
        while True:
            for handle, body in await client.take(1):
                arrival = time.perf_counter()
                spent.append((arrival - CLOCK.unpack(bytes.fromhex(body.strip(b'"').decode()))[0]) * 1000)
                await client.done([handle])

    async with connect(address, 2, WINDOW) as [producer, consumer]:
        listener = asyncio.create_task(listen(consumer))
        begin = time.perf_counter() + WARM_UP
        while len(spent) < LEAST or time.perf_counter() < begin + seconds:
            if time.perf_counter() < begin:
                spent.clear()  # it is not known yet whether the consumer listens
            await producer.put([b'"%s"' % CLOCK.pack(time.perf_counter()).hex().encode()])
            await asyncio.wait({listener}, timeout=INTERVAL * random.uniform(0.5, 1.5))
            if listener.done():
                listener.result()
        await end([listener])
    return quantiles(spent)


def quantiles(spent: Sequence[float]) -> list[float]:
    """The median and the 99th percentile."""
    cuts = statistics.quantiles(spent, n=100)
    return [cuts[49], cuts[98]]


async def main(client: str, mode: str, address: str, seconds: float) -> None:
    connect: Connect = importlib.import_module(f"bench.load.clients.{client}").connect
    print(*await {"singly": singly, "batched": batched, "dispatch": dispatch}[mode](connect, address, seconds))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
