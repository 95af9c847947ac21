"""How fast is the Python client?

A real server on SQLite, in a file. This process inserts tasks in batches, several under way at once; one by one from
many coroutines, which the client gathers; then a worker with a handler that does nothing takes all of them.
`python -m bench.client [--tasks 100000] [--batch 1000] [--under-way 4] [--concurrency 500] [--engine sqlite|memory]`
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

import ratus
from tests.server import Server

SINGLE = 20_000


class Meter:
    """Prints rates, and the processor time that this process and the server take for them."""

    def __init__(self, server: psutil.Process) -> None:
        self._server = server

    async def measure(self, what: str, count: int, work: Callable[[], Awaitable[object]]) -> None:
        begin = time.perf_counter()
        ours, theirs = time.process_time(), self._server_time()
        await work()
        seconds = time.perf_counter() - begin
        ours, theirs = time.process_time() - ours, self._server_time() - theirs
        each = f"{ours / count * 1e6:.0f} µs of the client's processor each, {theirs / count * 1e6:.0f} of the server's"
        print(f"{what}: {count / seconds:,.0f}/s ({each})", flush=True)

    def _server_time(self) -> float:
        times = self._server.cpu_times()
        return float(times.user + times.system)


async def run(options: argparse.Namespace, server: Server) -> None:
    meter = Meter(psutil.Process(server.process.pid))
    async with ratus.connect(server.target) as queue:
        batches = [
            [ratus.new_task("t", {"n": n}, id=str(n)) for n in range(start, start + options.batch)]
            for start in range(0, options.tasks, options.batch)
        ]
        await queue.get_server_info()

        async def insert() -> None:
            left = iter(batches)

            async def some() -> None:
                for batch in left:
                    await queue.insert_tasks(batch)

            await asyncio.gather(*(some() for _ in range(options.under_way)))

        await meter.measure(f"inserts in batches of {options.batch}", options.tasks, insert)

        async def insert_singly() -> None:
            numbers = iter(range(SINGLE))

            async def some() -> None:
                for n in numbers:
                    await queue.insert("u", {"n": n})

            await asyncio.gather(*(some() for _ in range(1000)))

        await meter.measure("single inserts of 1,000 coroutines", SINGLE, insert_singly)
        done = 0

        @queue.worker("t", concurrency=options.concurrency)
        async def work(task: ratus.ActiveTask[Any]) -> None:
            nonlocal done
            done += 1
            if done == options.tasks:
                queue.stop()

        await meter.measure(f"tasks of one worker, {options.concurrency} at once", options.tasks, queue.run)
        stats = await queue.get_topic_stats("t")
        assert (stats.completed, stats.pending, stats.active) == (options.tasks, 0, 0), stats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--under-way", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=500)
    parser.add_argument("--engine", choices=("sqlite", "memory"), default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as directory:
        arguments = ["--engine", options.engine]
        if options.engine == "sqlite":
            arguments += ["--sqlite-path", f"{directory}/q.db"]
        with Server(Path(directory) / "log", *arguments) as server:
            asyncio.run(run(options, server))


if __name__ == "__main__":
    main()
