"""Ratus over gRPC: calls that insert and commit, and a Poll stream for each caller that takes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.duration_pb2 import Duration

from bench.load.calls import Calls, channel, commits, task
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb

TIMEOUT = Duration(seconds=60)


class Ratus:
    """One caller."""

    def __init__(self, inserting: Calls, working: Calls, window: int) -> None:
        self._inserting = inserting
        self._working = working
        self._window = window
        self._stream: Any = None

    async def put(self, bodies: Sequence[bytes]) -> None:
        tasks = [task("bench", body) for body in bodies]
        await self._inserting.inserts(tasks_pb.InsertTasksRequest(tasks=tasks).SerializeToString())

    async def take(self, limit: int) -> Sequence[tuple[task_pb2.Task, bytes]]:
        if self._stream is None:
            request = promises_pb.PollRequest(topics=["bench"], max_in_flight=self._window, timeout=TIMEOUT)
            self._stream = self._working.poll(request.SerializeToString())
        while True:
            answer = await self._stream.read()
            if answer.tasks:  # else a heartbeat
                return [(task, task.payload) for task in answer.tasks]

    async def done(self, handles: Sequence[task_pb2.Task]) -> None:
        await self._working.commits(commits(list(handles)).SerializeToString())


@asynccontextmanager
async def connect(address: str, count: int, batch: int) -> AsyncIterator[list[Ratus]]:
    """Clients; the address can be two, of a server to insert at and of another to consume from."""
    targets = address.split(",")
    async with channel(targets[0]) as inserting, channel(targets[-1]) as working:
        await inserting.channel_ready()
        await working.channel_ready()
        yield [Ratus(Calls(inserting), Calls(working), batch) for _ in range(count)]
