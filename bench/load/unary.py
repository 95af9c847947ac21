"""Callers side by side that insert a task, claim one and commit it, each in a call of its own; or empty calls.

Prints how many calls were answered a second. `python -m bench.load.unary TARGET SECONDS CALLERS cycle|empty [TOPICS]`
"""

import asyncio
import random
import sys
import time

import uvloop
from google.protobuf.duration_pb2 import Duration

from bench.load.calls import Calls, channel, commit, task
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb

WARM_UP = 0.5  # seconds
TIMEOUT = Duration(seconds=30)


class Counter:
    """Counts what is answered while it counts at all."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False


async def cycle(calls: Calls, counter: Counter, topics: int) -> None:
    while not counter.over:
        topic = f"bench-{random.randrange(topics)}"
        await calls.insert(tasks_pb.InsertTaskRequest(task=task(topic)).SerializeToString())
        request = promises_pb.ClaimTasksRequest(topic=topic, consumer="bench", timeout=TIMEOUT)
        answer = await calls.claim(request.SerializeToString())
        counter.count += 2
        for claimed in answer.tasks:
            await calls.commit(commit(claimed).SerializeToString())
            counter.count += 1


async def empty(calls: Calls, counter: Counter, topics: int) -> None:
    request = tasks_pb.InsertTaskRequest(task=task("bench")).SerializeToString()
    while not counter.over:
        await calls.insert(request)
        counter.count += 1


async def main(target: str, seconds: float, callers: int, kind: str, topics: int) -> None:
    counter = Counter()
    async with channel(target) as connection:
        await connection.channel_ready()
        calls = Calls(connection)
        work = {"cycle": cycle, "empty": empty}[kind]
        tasks = [asyncio.create_task(work(calls, counter, topics)) for _ in range(callers)]
        await asyncio.sleep(WARM_UP)
        counter.count, begin = 0, time.perf_counter()
        while not counter.count:  # noqa: ASYNC110 (time is what is measured; more of it where the storage stood still)
            await asyncio.sleep(seconds)
        rate = counter.count / (time.perf_counter() - begin)
        counter.over = True
        await asyncio.gather(*tasks)
    print(rate)


if __name__ == "__main__":
    _, target, seconds, callers, kind, *rest = sys.argv
    uvloop.run(main(target, float(seconds), int(callers), kind, int(rest[0]) if rest else 1))
