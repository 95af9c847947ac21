"""How long is a task on its way to an idle consumer?

Real processes: a server (two with --across), a consumer on `Poll`, and a producer that inserts a task every 50 ms over
gRPC. Time is that from the begin of the insert call to the arrival at the consumer, on the clock both share; for
--scheduled that from the scheduled time, for --missed that from the deadline to the second delivery.

`python -m bench.latency [--engine sqlite|mongodb] [--across] [--count N]`
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from tests.mongod import replica_set
from tests.server import Server

INTERVAL = 0.05  # seconds


async def consume(target: str, count: int, missed: bool) -> None:
    """Print the arrival of every task: its id, the time of day, its deadline; commit it unless it is to be missed."""
    timeout = Duration(nanos=300_000_000) if missed else Duration(seconds=30)
    async with grpc.aio.insecure_channel(target) as channel:
        tasks = TaskServiceStub(channel)
        request = promises_pb.PollRequest(topics=["t"], max_in_flight=1000, timeout=timeout)
        seen: set[str] = set()
        async for answer in PromiseServiceStub(channel).Poll(request):
            arrival = time.time()
            for task in answer.tasks:
                print(task.id, arrival, task.deadline.ToNanoseconds() / 1e9, flush=True)
                if not missed or task.id in seen:
                    commit = task_pb2.Commit(nonce=task.nonce)
                    await tasks.CommitTask(tasks_pb.CommitTaskRequest(id=task.id, commit=commit))
                    count -= 1
                seen.add(task.id)
            if count == 0:
                return


async def measure(server: Server, other: Server, count: int, kind: str) -> list[float]:
    """Milliseconds on the way."""
    arguments = [sys.executable, "-m", "bench.latency", "--consume", other.target, "--count", str(count)]
    consumer = await asyncio.create_subprocess_exec(
        *arguments, *(["--missed"] if kind == "missed" else []), stdout=asyncio.subprocess.PIPE
    )
    begins: dict[str, float] = {}
    async with grpc.aio.insecure_channel(server.target) as channel:
        tasks = TaskServiceStub(channel)
        await channel.channel_ready()
        await asyncio.sleep(1.5)  # until the consumer listens
        for number in range(count):
            task = task_pb2.Task(id=f"{kind}-{number}", topic="t", payload=b'{"n":1}')
            if kind == "scheduled":
                due = Timestamp()
                due.FromMilliseconds(int((time.time() + 0.2) * 1000))
                task.scheduled.CopyFrom(due)
                begins[task.id] = due.ToMilliseconds() / 1000
            else:
                begins[task.id] = time.time()
            await tasks.InsertTask(tasks_pb.InsertTaskRequest(task=task))
            await asyncio.sleep(INTERVAL)
    assert consumer.stdout is not None
    spent: list[float] = []
    deadlines: dict[str, float] = {}
    async for line in consumer.stdout:
        id, arrival, deadline = line.decode().split()
        if kind != "missed":
            spent.append((float(arrival) - begins[id]) * 1000)
        elif id in deadlines:
            spent.append((float(arrival) - deadlines[id]) * 1000)
        deadlines[id] = float(deadline)
    await consumer.wait()
    return spent


def report(name: str, spent: Sequence[float]) -> None:
    cuts = statistics.quantiles(spent, n=100)
    print(
        f"{name:<44} n={len(spent):<5} min {min(spent):7.2f}  p50 {cuts[49]:7.2f}  p99 {cuts[98]:7.2f}  "
        f"max {max(spent):7.2f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "mongodb"), default="sqlite")
    parser.add_argument("--across", action="store_true", help="insert through another server than the consumer's")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--consume", metavar="TARGET", help=argparse.SUPPRESS)
    parser.add_argument("--missed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.consume:
        asyncio.run(consume(options.consume, options.count, options.missed))
        return
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        if options.engine == "mongodb":
            [mongod] = stack.enter_context(replica_set())
            arguments = ["--engine", "mongodb", "--mongodb-uri", mongod.uri]
        else:
            arguments = ["--sqlite-path", str(directory / "q.db")]
        server = other = stack.enter_context(Server(directory / "log", *arguments))
        if options.across:
            other = stack.enter_context(Server(directory / "log", *arguments))
        where = f"{options.engine}{', through another server' if options.across else ''}"
        for kind, name in (
            ("insert", "insert to arrival"),
            ("scheduled", "scheduled time to arrival"),
            ("missed", "deadline to redelivery"),
        ):
            report(f"{where}: {name}", asyncio.run(measure(server, other, options.count, kind)))


if __name__ == "__main__":
    main()
