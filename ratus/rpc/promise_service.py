"""PromiseService on the core service."""

# ruff: noqa: N802 (the methods are named by the contract)

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ratus.core.service import Service
from ratus.ending import cancel
from ratus.http2.errors import StreamClosed
from ratus.model import Task
from ratus.rpc import batches, wire
from ratus.rpc.heartbeats import Heartbeat
from ratus.rpc.paging import page_fields
from ratus.rpc.work import WorkStream
from ratus.v1 import promise_service_pb2 as pb
from ratus.v1 import promise_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class PromiseServicer(promise_service_pb2_grpc.PromiseServiceServicer):
    """Makes and deletes promises, and delivers tasks."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._running: set[asyncio.Task[None]] = set()  # messages of Work streams, also of those that have ended

    async def ended(self, grace: float) -> None:
        """Wait until what has come in on streams is carried out, once they have ended; stop what takes longer."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace)
            await cancel(*late)

    async def ListPromises(self, request: pb.ListPromisesRequest, context: Context) -> pb.ListPromisesResponse:
        """A page of the promises of a topic, or of all."""
        page = await page_fields(self._service.list_promises(request.topic, wire.read_page(request)))
        return pb.ListPromisesResponse(promises=map(wire.write_promise, page.items), next_page_token=page.next_token)

    async def GetPromise(self, request: pb.GetPromiseRequest, context: Context) -> pb.GetPromiseResponse:
        """The promise on an active task."""
        return pb.GetPromiseResponse(promise=wire.write_promise(await self._service.get_promise(request.id)))

    async def InsertPromise(self, request: pb.InsertPromiseRequest, context: Context) -> pb.InsertPromiseResponse:
        """Claim the named task if it is pending."""
        task = await self._service.insert_promise(wire.read_promise(request.promise))
        return pb.InsertPromiseResponse(task=wire.write_task(task))

    async def UpsertPromise(self, request: pb.UpsertPromiseRequest, context: Context) -> pb.UpsertPromiseResponse:
        """Claim the named task in any state."""
        task = await self._service.upsert_promise(wire.read_promise(request.promise))
        return pb.UpsertPromiseResponse(task=wire.write_task(task))

    async def DeletePromise(self, request: pb.DeletePromiseRequest, context: Context) -> pb.DeletePromiseResponse:
        """Set an active task back to pending."""
        return pb.DeletePromiseResponse(deleted=await self._service.delete_promise(request.id, request.nonce))

    async def DeletePromises(self, request: pb.DeletePromisesRequest, context: Context) -> pb.DeletePromisesResponse:
        """Set the active tasks of a topic back to pending."""
        return pb.DeletePromisesResponse(deleted=await self._service.delete_promises(request.topic))

    async def ClaimTasks(self, request: pb.ClaimTasksRequest, context: Context) -> pb.ClaimTasksResponse:
        """Claim the next due tasks of a topic; a client that goes away cancels the wait."""
        tasks = await self._service.claim_tasks(wire.read_claim(request))
        return pb.ClaimTasksResponse(tasks=map(wire.write_task, tasks))

    async def Poll(  # type: ignore[override]  # a coroutine that writes, which the stubs do not know
        self, request: pb.PollRequest, context: Context
    ) -> None:
        """Deliver tasks as they become due, for as long as the client listens."""
        poll = wire.read_poll(request)
        subscription = self._service.subscribe(poll)
        heartbeat = Heartbeat(poll)
        unsent: list[Task] = []
        try:
            while True:
                tasks = await subscription.next(heartbeat.left())
                if tasks or heartbeat.is_due():
                    try:
                        await context.write(pb.PollResponse(tasks=map(wire.write_task, tasks)))
                    except StreamClosed:  # unlike a cancellation, which also comes when it has been sent
                        unsent = tasks
                        raise
                    heartbeat.restart()
        finally:
            subscription.close(unsent=unsent)  # must not wait: an await would be cancelled here

    async def ExtendPromises(self, request: pb.ExtendPromisesRequest, context: Context) -> pb.ExtendPromisesResponse:
        """Set the deadlines of promises, each with its outcome."""
        return await batches.extend(self._service, request)

    async def Work(  # type: ignore[override]
        self, requests: AsyncIterator[pb.WorkRequest], context: Context
    ) -> None:
        """Deliver tasks, and take what the worker says about them on the same stream."""
        await WorkStream(self._service, context, self._running).run(requests)
