"""TaskService on a backend."""

# ruff: noqa: N802 (the methods are named by the contract)

from typing import Any, Final

import grpc
from google.rpc import status_pb2

from ratus.backend import Backend
from ratus.rpc import batches, wire
from ratus.rpc.paging import page_fields
from ratus.rules import each
from ratus.v1 import task_service_pb2 as pb
from ratus.v1 import task_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_OK: Final = status_pb2.Status()
_OVERHEAD: Final = 12  # bytes, of the tags and lengths around a task


class TaskServicer(task_service_pb2_grpc.TaskServiceServicer):
    """Reads, inserts, deletes and commits tasks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """A page of the tasks of a topic, or of all."""
        page = await page_fields(self._backend.list_tasks(request.topic, wire.read_page(request)))
        return pb.ListTasksResponse(tasks=map(wire.write_task, page.items), next_page_token=page.next_token)

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        """A task by its ID."""
        return pb.GetTaskResponse(task=wire.write_task(await self._backend.get_task(request.id)))

    async def InsertTask(self, request: pb.InsertTaskRequest, context: Context) -> pb.InsertTaskResponse:
        """Insert a task."""
        done = await self._backend.insert_task(wire.read_task_input(request.task))
        return pb.InsertTaskResponse(created=done.created, updated=done.updated)

    async def InsertTasks(self, request: pb.InsertTasksRequest, context: Context) -> pb.InsertTasksResponse:
        """Insert tasks and leave those that exist."""
        done = await self._backend.insert_tasks(each(request.tasks, "tasks", wire.read_task_input))
        return pb.InsertTasksResponse(created=done.created, updated=done.updated, existing_ids=done.existing_ids)

    async def UpsertTask(self, request: pb.UpsertTaskRequest, context: Context) -> pb.UpsertTaskResponse:
        """Insert or replace a task."""
        done = await self._backend.upsert_task(wire.read_task_input(request.task))
        return pb.UpsertTaskResponse(created=done.created, updated=done.updated)

    async def UpsertTasks(self, request: pb.UpsertTasksRequest, context: Context) -> pb.UpsertTasksResponse:
        """Insert or replace tasks."""
        done = await self._backend.upsert_tasks(each(request.tasks, "tasks", wire.read_task_input))
        return pb.UpsertTasksResponse(created=done.created, updated=done.updated, existing_ids=done.existing_ids)

    async def DeleteTask(self, request: pb.DeleteTaskRequest, context: Context) -> pb.DeleteTaskResponse:
        """Delete a task."""
        return pb.DeleteTaskResponse(deleted=await self._backend.delete_task(request.id))

    async def DeleteTasks(self, request: pb.DeleteTasksRequest, context: Context) -> pb.DeleteTasksResponse:
        """Delete the tasks of a topic, in one state or in any."""
        deleted = await self._backend.delete_tasks(request.topic, wire.read_state(request.state))
        return pb.DeleteTasksResponse(deleted=deleted)

    async def CommitTask(self, request: pb.CommitTaskRequest, context: Context) -> pb.CommitTaskResponse:
        """Apply a commit and answer the task after it."""
        return pb.CommitTaskResponse(
            task=wire.write_task(await self._backend.commit_task(batches.read_commit(request)))
        )

    async def CommitTasks(self, request: pb.CommitTasksRequest, context: Context) -> pb.CommitTasksResponse:
        """Apply commits in order, each with its outcome."""
        return await batches.commit(self._backend, request)
