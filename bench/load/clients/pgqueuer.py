"""pgqueuer: connections that enqueue, and a worker in this process, which acknowledges by itself when a job returns."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

ENTRYPOINT = "bench"
POOL = 32  # connections at most
END_SECONDS = 10


class Pgqueuer:
    """One caller."""

    def __init__(self, queries: Queries, arrived: "asyncio.Queue[bytes]") -> None:
        self._queries = queries
        self._arrived = arrived

    async def put(self, bodies: Sequence[bytes]) -> None:
        count = len(bodies)
        await self._queries.enqueue([ENTRYPOINT] * count, list(bodies), [0] * count)

    async def take(self, limit: int) -> Sequence[tuple[None, bytes]]:
        taken = [await self._arrived.get()]
        while len(taken) < limit and not self._arrived.empty():
            taken.append(self._arrived.get_nowait())
        return [(None, body) for body in taken]

    async def done(self, handles: Sequence[None]) -> None:
        """Nothing is left to do."""


@asynccontextmanager
async def connect(address: str, count: int, batch: int) -> AsyncIterator[list[Pgqueuer]]:
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    async with AsyncExitStack() as stack:

        async def connection() -> AsyncpgDriver:
            opened = await asyncpg.connect(address)
            stack.push_async_callback(opened.close)
            return AsyncpgDriver(opened)

        queues = [Queries(await connection()) for _ in range(min(count, POOL))]
        if not await queues[0].schema_is_installed():
            await queues[0].install()
        worker = PgQueuer(await connection())

        @worker.entrypoint(ENTRYPOINT)
        async def run(job: Job) -> None:
            arrived.put_nowait(job.payload or b"")

        running = asyncio.create_task(worker.run(batch_size=batch, dequeue_timeout=timedelta(seconds=1)))
        yield [Pgqueuer(queues[number % len(queues)], arrived) for number in range(count)]
        worker.shutdown.set()
        await asyncio.wait_for(running, END_SECONDS)
