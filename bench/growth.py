"""Does a claim cost the same with a million pending tasks as with ten thousand?

Fills two SQLite files, then claims and completes tasks of both in turn, so that both see the same machine, and
prints the medians and their ratio. `python -m bench.growth [SMALL] [LARGE]`
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ratus import rules, times
from ratus.config import Limits, SQLiteSettings
from ratus.engines.sqlite import SQLiteEngine
from ratus.model import Commit, Task, TaskInput

ROUNDS = 200
BATCH = 5_000
LIMITS = Limits()


def new_tasks(count: int) -> list[Task]:
    now = times.now()
    return [
        rules.new_task(TaskInput(id=f"{random.random():.17f}", topic="t", payload=b'{"depth":3}'), now, LIMITS)
        for _ in range(count)
    ]


async def fill(path: Path, count: int) -> SQLiteEngine:
    engine = SQLiteEngine(SQLiteSettings(path=str(path)))
    await engine.open()
    begin = time.perf_counter()
    for start in range(0, count, BATCH):
        await engine.insert(new_tasks(min(BATCH, count - start)))
    seconds = time.perf_counter() - begin
    print(f"{count:>9} tasks inserted in batches of {BATCH}: {count / seconds:,.0f}/s")
    return engine


async def cycle(engine: SQLiteEngine, size: int) -> tuple[float, float, float]:
    """Seconds of an insert, a claim and a commit of so many tasks."""
    tasks = new_tasks(size)
    grants = [rules.grant("c", None, None, times.now()) for _ in range(size)]
    begin = time.perf_counter()
    await engine.insert(tasks)
    inserted = time.perf_counter()
    claimed = await engine.claim("t", grants, 2**22)
    assert len(claimed) == size
    after = time.perf_counter()
    commits = [rules.check_commit(Commit(id=task.id, nonce=task.nonce), times.now(), LIMITS) for task in claimed]
    before = time.perf_counter()
    await engine.commit(commits)
    return inserted - begin, after - inserted, time.perf_counter() - before


async def main(small: int, large: int) -> None:
    with tempfile.TemporaryDirectory(dir=".") as directory:
        engines = {count: await fill(Path(directory) / f"{count}.db", count) for count in (small, large)}
        for size in (1, 100):
            seconds: dict[int, list[tuple[float, float, float]]] = {count: [] for count in engines}
            for _ in range(ROUNDS):
                for count, engine in engines.items():
                    seconds[count].append(await cycle(engine, size))
            for index, name in enumerate(("insert", "claim", "commit")):
                median = {count: statistics.median(s[index] for s in seconds[count]) * 1e6 for count in engines}
                print(
                    f"{name:>7} of {size:>3}: {median[small]:9.0f} µs with {small}, "
                    f"{median[large]:9.0f} µs with {large}; ratio {median[large] / median[small]:.2f}"
                )
        for engine in engines.values():
            await engine.close()


if __name__ == "__main__":
    counts = [int(argument) for argument in sys.argv[1:]] or [10_000, 1_000_000]
    asyncio.run(main(*counts))
