"""A program with a worker: `worker_program.py TARGET async|sync SECONDS GRACE`; each task takes so long."""

import asyncio
import sys
import time
from typing import Any

import ratus


async def work(target: str, seconds: float, grace: str) -> None:
    async with ratus.connect(target) as queue:

        @queue.worker("t", concurrency=2)
        async def handle(task: ratus.ActiveTask[Any]) -> None:
            print(f"begin {task.id}\n", end="", flush=True)  # in one piece, also from threads
            await asyncio.sleep(seconds)

        await queue.run(grace=grace)
    print("end", flush=True)


def work_sync(target: str, seconds: float, grace: str) -> None:
    with ratus.connect_sync(target) as queue:

        @queue.worker("t", concurrency=2)
        def handle(task: ratus.SyncActiveTask[Any]) -> None:
            print(f"begin {task.id}\n", end="", flush=True)  # in one piece, also from threads
            time.sleep(seconds)

        queue.run(grace=grace)
    print("end", flush=True)


if __name__ == "__main__":
    _, target, kind, seconds, grace = sys.argv
    if kind == "async":
        asyncio.run(work(target, float(seconds), grace))
    else:
        work_sync(target, float(seconds), grace)
