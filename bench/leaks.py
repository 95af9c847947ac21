"""Does the memory of a server stay flat?

Opens and cancels many streams, half of them Poll and half Work, then delivers tasks through Work for a while, with
commits in batches, and prints the resident memory on the way. `python -m bench.leaks [--streams 10000] [--seconds 60]`
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path

import grpc
import psutil

from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from tests.server import Server

AT_ONCE = 200
BATCH = 100


async def open_and_cancel(channel: grpc.aio.Channel, count: int) -> None:
    """Streams that have begun when they are cancelled."""
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


async def deliver(channel: grpc.aio.Channel, seconds: float) -> int:
    """Insert, receive and commit tasks as fast as one client can; the number of tasks."""
    tasks, begin, count = TaskServiceStub(channel), time.monotonic(), 0
    worker = PromiseServiceStub(channel).Work()
    start = promises_pb.PollRequest(topics=["busy"], max_in_flight=2000)
    await worker.write(promises_pb.WorkRequest(start=start))

    async def produce() -> None:
        number = 0
        while time.monotonic() - begin < seconds:
            ids = [f"{begin}-{number}-{n}" for n in range(BATCH)]
            batch = [task_pb2.Task(id=id, topic="busy", payload=b'{"depth":3}') for id in ids]
            await tasks.InsertTasks(tasks_pb.InsertTasksRequest(tasks=batch))
            number += 1

    producer = asyncio.create_task(produce())
    while not producer.done():
        message = await worker.read()
        if message.WhichOneof("response") == "tasks":
            count += len(message.tasks.tasks)
            commits = [
                tasks_pb.CommitTaskRequest(id=task.id, commit=task_pb2.Commit(nonce=task.nonce))
                for task in message.tasks.tasks
            ]
            request = promises_pb.WorkRequest(commit=tasks_pb.CommitTasksRequest(commits=commits))
            await worker.write(request)
    await producer
    worker.cancel()
    return count


async def run(server: Server, streams: int, seconds: float) -> None:
    process = psutil.Process(server.process.pid)

    def memory() -> str:
        return f"{process.memory_info().rss / 2**20:.1f} MiB, {process.num_fds()} file descriptors"

    async with grpc.aio.insecure_channel(server.target) as channel:
        await open_and_cancel(channel, AT_ONCE)
        print(f"after {AT_ONCE} streams: {memory()}")
        for _ in range(4):
            await open_and_cancel(channel, streams // 4)
            print(f"after {streams // 4} more streams: {memory()}")
        for _ in range(4):
            count = await deliver(channel, seconds / 4)
            print(f"after {count} more tasks ({count / seconds * 4:,.0f}/s): {memory()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        server = stack.enter_context(Server(directory / "log", "--sqlite-path", str(directory / "q.db")))
        asyncio.run(run(server, options.streams, options.seconds))


if __name__ == "__main__":
    main()
