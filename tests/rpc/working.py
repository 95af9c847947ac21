"""A client's end of a Work stream, for tests."""

import asyncio
from typing import Any

import grpc

from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1.task_pb2 import Commit, Task

OK = 0
INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8
ABORTED = 10
UNAVAILABLE = 14


class Worker:
    """One stream, with what has come on it sorted by kind."""

    def __init__(self, client: Any, **start: Any) -> None:
        self.call = client.promises.Work()
        self.start = promises.PollRequest(**{"topics": ["t"], "max_in_flight": 10, **start})
        self._sequence = 0
        self.tasks: list[Task] = []
        self.lost: list[str] = []
        self.heartbeats = 0
        self.results: dict[int, Any] = {}

    async def begin(self) -> "Worker":
        assert (await self.ask(start=self.start)).status.code == OK
        return self

    async def say(self, **request: Any) -> int:
        """Send a message; its sequence."""
        self._sequence += 1
        await self.call.write(promises.WorkRequest(sequence=self._sequence, **request))
        return self._sequence

    async def read(self) -> None:
        """Take one message."""
        message = await asyncio.wait_for(self.call.read(), 30)
        assert message is not grpc.aio.EOF
        match message.WhichOneof("response"):
            case "tasks":
                self.tasks += message.tasks.tasks
                self.heartbeats += not message.tasks.tasks
            case "lost":
                self.lost += message.lost.ids
            case "results":
                assert message.results.sequence not in self.results
                self.results[message.results.sequence] = message.results

    async def answer(self, sequence: int) -> Any:
        while sequence not in self.results:
            await self.read()
        return self.results[sequence]

    async def ask(self, **request: Any) -> Any:
        return await self.answer(await self.say(**request))

    async def receive(self, count: int) -> list[Task]:
        """The next tasks."""
        while len(self.tasks) < count:
            await self.read()
        received, self.tasks = self.tasks[:count], self.tasks[count:]
        return received


def commits(*held: Task, **more: Any) -> tasks.CommitTasksRequest:
    return tasks.CommitTasksRequest(
        commits=[tasks.CommitTaskRequest(id=task.id, commit=Commit(nonce=task.nonce, **more)) for task in held]
    )


def codes(results: Any) -> list[int]:
    return [result.status.code for result in results]


async def stored(client: Any, id: str) -> Task:
    task: Task = (await client.tasks.GetTask(tasks.GetTaskRequest(id=id))).task
    return task
