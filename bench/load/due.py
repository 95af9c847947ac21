"""How long after its time comes a task? Prints p50 and p99 in milliseconds.

scheduled: from the scheduled time to the arrival; missed: from the deadline of a promise that is not kept to the second
delivery. `python -m bench.load.due TARGET SECONDS scheduled|missed`
"""

import asyncio
import sys
import time
from typing import Any

import uvloop
from google.protobuf.duration_pb2 import Duration

from bench.load.calls import Calls, channel, commits, task
from bench.load.drive import INTERVAL, LEAST, end, quantiles
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb

AHEAD = 0.3  # seconds to the scheduled time or the deadline
WINDOW = 1000
KEPT = Duration(seconds=60)
MISSED = Duration(nanos=int(AHEAD * 1e9))


async def listen(calls: Calls, topic: str, missed: bool, spent: list[float]) -> None:
    request = promises_pb.PollRequest(topics=[topic], max_in_flight=WINDOW, timeout=MISSED if missed else KEPT)
    deadlines: dict[str, float] = {}
    async for answer in calls.poll(request.SerializeToString()):
        arrival = time.time()
        again = [task for task in answer.tasks if task.id in deadlines]
        for delivered in again if missed else answer.tasks:
            due = deadlines[delivered.id] if missed else delivered.scheduled.ToNanoseconds() / 1e9
            spent.append((arrival - due) * 1000)
        kept = again if missed else list(answer.tasks)
        deadlines.update((task.id, task.deadline.ToNanoseconds() / 1e9) for task in answer.tasks)
        if kept:
            await calls.commits(commits(kept).SerializeToString())


async def insert(calls: Calls, topic: str, missed: bool) -> None:
    new: Any = task(topic)
    if not missed:
        new.scheduled.FromMilliseconds(int((time.time() + AHEAD) * 1000))
    await calls.insert(tasks_pb.InsertTaskRequest(task=new).SerializeToString())


async def main(target: str, seconds: float, kind: str) -> None:
    spent: list[float] = []
    missed, topic = kind == "missed", f"{kind}-{time.time_ns()}"
    async with channel(target) as inserting, channel(target) as working:
        await working.channel_ready()
        listener = asyncio.create_task(listen(Calls(working), topic, missed, spent))
        calls, begin = Calls(inserting), time.perf_counter()
        while len(spent) < LEAST or time.perf_counter() < begin + seconds:
            await insert(calls, topic, missed)
            await asyncio.wait({listener}, timeout=INTERVAL)
            if listener.done():
                listener.result()
        await end([listener])
    print(*quantiles(spent))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
