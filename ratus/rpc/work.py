"""One Work stream: tasks and notices go out while commits, extensions and releases come in."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

import grpc

from ratus.core.service import Service
from ratus.core.subscription import Subscription
from ratus.errors import BadRequest, Internal, RatusError
from ratus.http2.errors import StreamClosed
from ratus.model import Task
from ratus.rpc import batches, wire
from ratus.rpc.errors import to_status
from ratus.rpc.heartbeats import Heartbeat
from ratus.v1 import promise_service_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[pb.WorkRequest, pb.WorkResponse]"

MAX_UNDER_WAY: Final = 64  # messages of one stream; then no more are read

_logger = logging.getLogger(__name__)


class WorkStream:
    """Serves one stream. What has come in is carried out, also when the client goes away meanwhile."""

    def __init__(self, service: Service, context: Context, running: set[asyncio.Task[None]]) -> None:
        self._service = service
        self._context = context
        self._running = running  # messages under way of all streams, which outlive these
        self._writing = asyncio.Lock()  # one message at a time
        self._room = asyncio.Semaphore(MAX_UNDER_WAY)
        self._under_way: set[asyncio.Task[None]] = set()
        self._unsent: list[Task] = []

    async def run(self, requests: AsyncIterator[pb.WorkRequest]) -> None:
        """Serve until the client has said all and got its answers, or the server drains; RatusError."""
        start = await anext(requests, None)
        if start is None:
            return
        if start.WhichOneof("request") != "start":
            raise BadRequest("the first message of a stream must be start", field="request")
        request = wire.read_poll(start.start)
        subscription = self._service.subscribe(request, notices=True)
        self._heartbeat = Heartbeat(request)
        deliver = asyncio.create_task(self._deliver(subscription))
        read = asyncio.create_task(self._read(requests, subscription))
        try:
            await self._write(results=pb.WorkResults(sequence=start.sequence, status=batches.OK))
            await asyncio.wait((deliver, read), return_when=asyncio.FIRST_COMPLETED)
            first = read if read.done() else deliver
            if first is read:
                async with self._writing:  # so that it is not stopped in the middle of a message
                    deliver.cancel()
            subscription.close(unsent=self._unsent)
            if first is deliver:
                read.cancel()  # or a client that never stops would keep a server that drains until its patience ends
            while self._under_way:
                await asyncio.wait(self._under_way)
            first.result()
        finally:
            deliver.cancel()
            read.cancel()
            subscription.close(unsent=self._unsent)

    async def _deliver(self, subscription: Subscription) -> None:
        while True:
            self._unsent = await subscription.next(self._heartbeat.left())
            lost = subscription.take_lost()
            if lost:
                await self._write(lost=pb.Lost(ids=lost))
            if self._unsent or self._heartbeat.is_due():
                await self._write(tasks=pb.Tasks(tasks=map(wire.write_task, self._unsent)))
                self._unsent = []

    async def _read(self, requests: AsyncIterator[pb.WorkRequest], subscription: Subscription) -> None:
        while True:
            await self._room.acquire()  # before it is read, so that what has been read is carried out
            request = await anext(requests, None)
            if request is None:
                return
            # Tasks begin in the order of their creation and hand their entries to the storage before they first wait,
            # so what is of one kind is applied in the order that it was sent in.
            task = asyncio.create_task(self._serve(request, subscription))
            self._under_way.add(task)
            self._running.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        self._under_way.discard(task)
        self._running.discard(task)

    async def _serve(self, request: pb.WorkRequest, subscription: Subscription) -> None:
        results = pb.WorkResults(sequence=request.sequence)
        try:
            match request.WhichOneof("request"):
                case "commit":
                    results.commit.CopyFrom(await batches.commit(self._service, request.commit))
                case "extend":
                    results.extend.CopyFrom(await batches.extend(self._service, request.extend))
                case "release":
                    results.release.CopyFrom(await batches.release(self._service, request.release))
                case "window":
                    subscription.resize(request.window.max_in_flight, request.window.max_bytes)
                case "start":
                    raise BadRequest("the stream has been started", field="request")
                case _:
                    raise BadRequest("must be set", field="request")
            results.status.CopyFrom(batches.OK)
        except RatusError as error:
            results.status.CopyFrom(to_status(error))
        except Exception:
            _logger.exception("a message of a Work stream failed")
            results.status.CopyFrom(to_status(Internal()))
        try:
            await self._write(results=results)
        except StreamClosed:
            return  # the client has gone; it will not miss the answer

    async def _write(self, **response: Any) -> None:
        async with self._writing:
            await self._context.write(pb.WorkResponse(**response))
            self._heartbeat.restart()
