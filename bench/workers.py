"""What do further workers bring on MongoDB (a replica set of one), and what do they cost?

Servers with different numbers of workers on one mongod, in turn: the REST cycle with wrk (32 connections), and the
gRPC cycle of unary calls with 32 callers from two processes. Prints the medians, and the processor time that the
workers and mongod spent on a request, which tells more than the rate where the load generator needs the same cores.
Needs wrk. `python -m bench.workers [--workers 1 2] [--seconds 5] [--runs 3]`
"""

import argparse
import asyncio
import contextlib
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import grpc
import psutil

from bench.rest import drive
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from tests.mongod import Mongod, replica_set
from tests.server import Server

CALLERS = 16  # of each of two processes, with a channel for every four of them


async def call(target: str, seconds: float) -> int:
    """Insert, claim and commit by turns; the number of calls."""
    calls = 0
    end = time.monotonic() + seconds
    async with contextlib.AsyncExitStack() as stack:
        apart = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=apart))
            for _ in range(CALLERS // 4)
        ]

        async def cycle(number: int) -> None:
            nonlocal calls
            channel = channels[number % len(channels)]
            tasks, promises = TaskServiceStub(channel), PromiseServiceStub(channel)
            while time.monotonic() < end:
                task = task_pb2.Task(id=secrets.token_hex(8), topic="grpc", payload=b'{"n":1}')
                await tasks.InsertTask(tasks_pb.InsertTaskRequest(task=task))
                claimed = (await promises.ClaimTasks(promises_pb.ClaimTasksRequest(topic="grpc"))).tasks
                calls += 2
                for task in claimed:
                    commit = task_pb2.Commit(nonce=task.nonce)
                    await tasks.CommitTask(tasks_pb.CommitTaskRequest(id=task.id, commit=commit))
                    calls += 1

        await asyncio.gather(*(cycle(number) for number in range(CALLERS)))
    return calls


def drive_grpc(server: Server, seconds: int) -> float:
    """Calls a second."""
    command = [sys.executable, "-m", "bench.workers", "--call", server.target, "--seconds", str(seconds)]
    callers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(int(caller.communicate()[0]) for caller in callers) / seconds


class Spent:
    """The processor time that a server and the database have spent."""

    def __init__(self, server: Server, mongod: Mongod) -> None:
        supervisor = psutil.Process(server.process.pid)
        self._ratus = supervisor.children() or [supervisor]
        self._mongod = [psutil.Process(mongod.pid)]

    def __call__(self) -> tuple[float, float]:
        return tuple(  # type: ignore[return-value]  # of two, as there are two sets of processes
            sum(times.user + times.system for times in (process.cpu_times() for process in processes))
            for processes in (self._ratus, self._mongod)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--call", metavar="TARGET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        print(asyncio.run(call(options.call, options.seconds)))
        return
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        [mongod] = stack.enter_context(replica_set())
        arguments = ["--engine", "mongodb", "--mongodb-uri", mongod.uri]
        servers = {
            count: stack.enter_context(
                Server(directory / "log", *arguments, "--mongodb-database", f"w{count}", "--workers", str(count))
            )
            for count in options.workers
        }
        drivers = {
            "REST": lambda server: drive(server.url, options.seconds),
            "gRPC": lambda server: drive_grpc(server, options.seconds),
        }
        measured = defaultdict(list)
        for _ in range(options.runs):
            for face, driver in drivers.items():
                for count, server in servers.items():
                    spent = Spent(server, mongod)
                    before = spent()
                    rate = driver(server)
                    after = spent()
                    requests = rate * options.seconds
                    costs = [(then - now) / requests * 1e6 for now, then in zip(before, after, strict=True)]
                    measured[face, count].append((rate, *costs))
        for (face, count), values in sorted(measured.items()):
            rates, ratus, database = zip(*values, strict=True)
            print(
                f"{face} cycle, workers: {count}   {statistics.median(rates):8,.0f} requests/s "
                f"(from {min(rates):,.0f} to {max(rates):,.0f}); processor time a request: "
                f"workers {statistics.median(ratus):.0f} µs, mongod {statistics.median(database):.0f} µs"
            )


if __name__ == "__main__":
    main()
