"""A stream of tasks from a gRPC server elsewhere."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import grpc

from ratus.errors import Draining
from ratus.model import Task
from ratus.rpc import wire
from ratus.rpc.errors import from_rpc_error


class RemoteStream:
    """Implements `ratus.backend.Stream` on a Poll call; `give_back` releases tasks in the background.

    What the call has on its way when it is closed is out of reach: it ends with its deadlines, unless the request says
    `release_on_close`.
    """

    def __init__(self, call: Any, give_back: Callable[[Sequence[Task]], None]) -> None:
        self._call = call
        self._give_back = give_back
        self._reading: asyncio.Task[Any] | None = None  # must not be cancelled, which would end the call
        self._closed = False

    async def next(self, idle: timedelta | None = None) -> list[Task]:
        """The next tasks; none after `idle` without any. The errors of the server."""
        loop = asyncio.get_running_loop()
        until = None if idle is None else loop.time() + idle.total_seconds()
        while True:
            if self._reading is None:
                self._reading = asyncio.create_task(self._call.read())
            left = None if until is None else max(until - loop.time(), 0)
            done, _ = await asyncio.wait([self._reading], timeout=left)
            if not done:
                return []
            if tasks := self._take():
                return tasks

    def _take(self) -> list[Task]:
        """The tasks of the message that was read."""
        assert self._reading is not None
        reading, self._reading = self._reading, None
        try:
            answer = reading.result()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        if answer is grpc.aio.EOF:
            raise Draining("the server has ended the stream")
        return [wire.read_task(task) for task in answer.tasks]

    def close(self, unsent: Sequence[Task] = ()) -> None:
        """End the call and give back what was not sent on."""
        if self._closed:
            return
        self._closed = True
        given_back = list(unsent)
        reading = self._reading
        if reading is not None and reading.done() and not reading.cancelled() and reading.exception() is None:
            answer = reading.result()
            if answer is not grpc.aio.EOF:
                given_back += [wire.read_task(task) for task in answer.tasks]
        self._call.cancel()
        if given_back:
            self._give_back(given_back)
