"""A client's end of a Work stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from ratus.errors import RatusError, StorageUnavailable
from ratus.model import Commit, Extension, PollRequest, Task
from ratus.rpc import wire
from ratus.rpc.connection import TIMEOUT, Link
from ratus.rpc.errors import from_rpc_error, from_status
from ratus.rpc.remote_calls import write_commit
from ratus.rules import each
from ratus.v1 import promise_pb2
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb


class RemoteWork:
    """One stream. Something must read its `messages` for the whole time, also for other methods to be answered.

    When the stream ends, what has not been answered raises StorageUnavailable: whether it was done is not known.
    """

    def __init__(self, link: Link, metadata: Sequence[tuple[str, str | bytes]] = ()) -> None:
        self._call: Any = link.promises.Work(metadata=metadata)
        self._writing = asyncio.Lock()  # one message at a time
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._sequence = 0
        self._open = True  # for further messages
        self.started = False  # whether the server has accepted it

    @property
    def is_open(self) -> bool:
        """Whether commits and the like can be sent."""
        return self._open

    async def start(self, request: PollRequest) -> None:
        """Say what is to be delivered; this comes first, and `messages` raises what the server refuses."""
        await self._write(0, start=wire.write_poll(request))

    async def messages(self) -> AsyncIterator[tuple[list[Task], Sequence[str]]]:
        """What is delivered, and IDs of tasks whose promises no longer hold, until the stream ends. RatusError."""
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                match message.WhichOneof("response"):
                    case "tasks":
                        yield [wire.read_task(task) for task in message.tasks.tasks], ()
                    case "lost":
                        yield [], list(message.lost.ids)
                    case "results":
                        self._take(message.results)
            code = await self._call.code()
            if code is not grpc.StatusCode.OK:
                raise StorageUnavailable(f"the stream ended with {code.name}")
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INTERNAL and not self._open:
                raise StorageUnavailable("the stream has ended") from error
            raise from_rpc_error(error) from error
        finally:
            self._end()

    async def commit(self, commits: Sequence[Commit]) -> list[RatusError | None]:
        """Apply commits in order, each with its outcome. RatusError for all."""
        request = tasks_pb.CommitTasksRequest(commits=each(commits, "commits", write_commit))
        answer = await self._ask(commit=request)
        return [from_status(result.status) if result.status.code else None for result in answer.commit.results]

    async def extend(self, extensions: Sequence[Extension]) -> list[RatusError | None]:
        """Set the deadlines of promises, each with its outcome. RatusError for all."""
        request = promises_pb.ExtendPromisesRequest(extensions=each(extensions, "extensions", wire.write_extension))
        answer = await self._ask(extend=request)
        return [from_status(result.status) if result.status.code else None for result in answer.extend.results]

    async def resize(self, max_in_flight: int, max_bytes: int) -> None:
        """Set another window. RatusError."""
        await self._ask(window=promise_pb2.Window(max_in_flight=max_in_flight, max_bytes=max_bytes))

    async def finish(self) -> None:
        """Say no more: what was asked is answered, no more tasks are delivered, and the stream ends."""
        self._open = False
        async with self._writing:
            try:
                await self._call.done_writing()
            except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
                return  # it has ended already

    def cancel(self) -> None:
        """End it at once."""
        self._call.cancel()

    async def _ask(self, **request: Any) -> Any:
        if not self._open:
            raise StorageUnavailable("the stream has ended")
        self._sequence += 1
        sequence = self._sequence
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[sequence] = answer
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._write(sequence, **request)
                results = await answer
        except TimeoutError:
            raise StorageUnavailable("the server did not answer in time") from None
        finally:
            self._answers.pop(sequence, None)
        if results.status.code:
            raise from_status(results.status)
        return results

    async def _write(self, sequence: int, **request: Any) -> None:
        async with self._writing:
            try:
                await self._call.write(promises_pb.WorkRequest(sequence=sequence, **request))
            except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
                self._open = False  # whatever the code says, it is the connection that has failed
                raise StorageUnavailable("the stream has ended") from error

    def _take(self, results: promises_pb.WorkResults) -> None:
        if results.sequence == 0:
            if results.status.code:
                raise from_status(results.status)
            self.started = True
            return
        answer = self._answers.get(results.sequence)
        if answer is not None and not answer.done():
            answer.set_result(results)

    def _end(self) -> None:
        self._open = False
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(StorageUnavailable("the stream ended before the answer"))
