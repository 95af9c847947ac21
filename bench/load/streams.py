"""Streams over a few channels. Prints what bench.streams tells: tasks a second, least and most of the fair share, what
idle ones take, and what stays of cancelled ones. `python -m bench.load.streams TARGET PID SECONDS`
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter

import grpc
import psutil
import uvloop

from bench.load.calls import OPTIONS, commits, task
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub

CHANNELS = 10
IDLE = 1_000
SHARING = 100
WINDOW = 10  # of each that shares
TASKS = 10_000
BATCH = 1_000
AT_ONCE = 200  # streams that are opened and cancelled together
SETTLE = 2.0  # seconds until streams count as idle
SHARE_SECONDS = 120


async def main(target: str, pid: int, seconds: float) -> None:
    process = psutil.Process(pid)
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=OPTIONS)) for _ in range(CHANNELS)
        ]
        shared = await share(channels)
        await open_and_cancel(channels[0], AT_ONCE)
        before = _mib(process)
        await open_and_cancel(channels[0], IDLE)
        kept = _mib(process) - before
        memory, processor = await idle(channels, process, seconds)
        print(*shared, memory, processor, kept)


def _mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


async def idle(channels: list[grpc.aio.Channel], process: psutil.Process, seconds: float) -> tuple[float, float]:
    """Streams on a topic each, without tasks: MiB, and percent of a core."""
    before = _mib(process)
    calls = [
        PromiseServiceStub(channels[n % CHANNELS]).Poll(promises_pb.PollRequest(topics=[f"idle-{n}"]))
        for n in range(IDLE)
    ]
    await asyncio.sleep(SETTLE)
    process.cpu_percent()
    await asyncio.sleep(seconds)
    processor, memory = float(process.cpu_percent()), _mib(process) - before
    for call in calls:
        call.cancel()
    return memory, processor


async def open_and_cancel(channel: grpc.aio.Channel, count: int) -> None:
    """Streams that have begun when they are cancelled, half of them Poll and half Work."""
    promises = PromiseServiceStub(channel)
    request = promises_pb.PollRequest(topics=["idle"])
    for start in range(0, count, AT_ONCE):
        workers = [promises.Work() for _ in range(min(AT_ONCE, count - start) // 2)]
        polls = [promises.Poll(request) for _ in workers]
        for worker in workers:
            await worker.write(promises_pb.WorkRequest(start=request))
        for worker in workers:
            await worker.read()
        for call in (*workers, *polls):
            call.cancel()


async def share(channels: list[grpc.aio.Channel]) -> tuple[float, float, float]:
    """Streams on one topic, every task committed as it comes: tasks a second, least and most of the fair share."""
    portions: Counter[int] = Counter()
    topic = f"shared-{time.time_ns()}"
    done = asyncio.Event()

    async def work(number: int) -> None:
        tasks = TaskServiceStub(channels[number % CHANNELS])
        request = promises_pb.PollRequest(topics=[topic], max_in_flight=WINDOW)
        async for answer in PromiseServiceStub(channels[number % CHANNELS]).Poll(request):
            portions[number] += len(answer.tasks)
            await tasks.CommitTasks(commits(list(answer.tasks)))
            if portions.total() >= TASKS:
                done.set()

    workers = [asyncio.create_task(work(number)) for number in range(SHARING)]
    await asyncio.sleep(SETTLE)
    begin = time.perf_counter()
    for _ in range(0, TASKS, BATCH):
        batch = [task(topic) for _ in range(BATCH)]
        await TaskServiceStub(channels[0]).InsertTasks(tasks_pb.InsertTasksRequest(tasks=batch))
    await asyncio.wait_for(done.wait(), SHARE_SECONDS)
    spent = time.perf_counter() - begin
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    shares = [portions[number] * SHARING / TASKS for number in range(SHARING)]
    return TASKS / spent, min(shares), max(shares)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
