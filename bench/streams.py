"""What do streams cost, and do they share fairly?

A real server; the streams come from this process over a few channels. Some streams share tasks: prints the fewest
and most that one got, then the memory and processor time of the server with idle streams.
`python -m bench.streams [--engine sqlite|mongodb] [--idle 1000] [--sharing 100] [--tasks 10000]`
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc
import psutil

from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from tests.mongod import replica_set
from tests.server import Server

CHANNELS = 10
SECONDS = 20


def mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


async def idle(channels: list[grpc.aio.Channel], process: psutil.Process, count: int) -> None:
    """Streams on a topic each, without tasks."""
    before = mib(process)
    calls = [
        PromiseServiceStub(channels[n % CHANNELS]).Poll(promises_pb.PollRequest(topics=[f"idle-{n}"]))
        for n in range(count)
    ]
    await asyncio.sleep(5)
    process.cpu_percent()
    await asyncio.sleep(SECONDS)
    print(
        f"{count} idle streams: {mib(process):.0f} MiB (without {before:.0f}), "
        f"{process.cpu_percent():.1f} % of a core over {SECONDS} s"
    )
    for call in calls:
        call.cancel()


async def share(channels: list[grpc.aio.Channel], streams: int, total: int) -> None:
    """Streams with a window of 10 on one topic; every task is committed as it comes, in batches."""
    seen: Counter[str] = Counter()
    portions: Counter[int] = Counter()
    done = asyncio.Event()

    async def work(number: int) -> None:
        channel = channels[number % CHANNELS]
        tasks = TaskServiceStub(channel)
        async for answer in PromiseServiceStub(channel).Poll(promises_pb.PollRequest(topics=["t"], max_in_flight=10)):
            seen.update(task.id for task in answer.tasks)
            portions[number] += len(answer.tasks)
            commits = [
                tasks_pb.CommitTaskRequest(id=task.id, commit=task_pb2.Commit(nonce=task.nonce))
                for task in answer.tasks
            ]
            await tasks.CommitTasks(tasks_pb.CommitTasksRequest(commits=commits))
            if len(seen) == total:
                done.set()

    workers = [asyncio.create_task(work(number)) for number in range(streams)]
    await asyncio.sleep(2)
    begin = time.perf_counter()
    for start in range(0, total, 1000):
        batch = [task_pb2.Task(id=str(n), topic="t", payload=b'{"n":1}') for n in range(start, start + 1000)]
        await TaskServiceStub(channels[0]).InsertTasks(tasks_pb.InsertTasksRequest(tasks=batch))
    await asyncio.wait_for(done.wait(), 120)
    seconds = time.perf_counter() - begin
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    fair = total / streams
    doubled = sum(count > 1 for count in seen.values())
    print(
        f"{streams} streams shared {total} tasks in {seconds:.1f} s ({total / seconds:,.0f}/s); {doubled} came twice; "
        f"least {min(portions.values()) / fair:.2f}, most {max(portions.values()) / fair:.2f} of the fair share"
    )


async def run(server: Server, options: argparse.Namespace) -> None:
    process = psutil.Process(server.process.pid)
    async with contextlib.AsyncExitStack() as stack:
        unique = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(server.target, options=unique))
            for _ in range(CHANNELS)
        ]
        await share(channels, options.sharing, options.tasks)
        await idle(channels, process, options.idle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "mongodb"), default="sqlite")
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--sharing", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        if options.engine == "mongodb":
            [mongod] = stack.enter_context(replica_set())
            arguments = ["--engine", "mongodb", "--mongodb-uri", mongod.uri]
        else:
            arguments = ["--sqlite-path", str(directory / "q.db")]
        server = stack.enter_context(Server(directory / "log", *arguments))
        asyncio.run(run(server, options))


if __name__ == "__main__":
    main()
