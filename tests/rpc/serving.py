"""A service on SQLite in memory behind a real port, and a client with the limits that clients have by default."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import CollectorRegistry

from ratus.config import Limits, Listen, SQLiteSettings
from ratus.core.service import Service
from ratus.engines.sqlite import SQLiteEngine
from ratus.rpc.server import RPCServer
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1 import topic_service_pb2 as topics
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.server_service_pb2_grpc import ServerServiceStub
from ratus.v1.task_pb2 import Task
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from ratus.v1.topic_service_pb2_grpc import TopicServiceStub
from tests.ports import held_port


@contextlib.asynccontextmanager
async def open_service(registry: CollectorRegistry) -> AsyncIterator[Service]:
    """The core on an engine of its own."""
    engine = SQLiteEngine(SQLiteSettings(path=None))
    await engine.open()
    service = Service(engine, Limits(), registry)
    yield service
    await service.close()
    await engine.close()


class Running:
    """A server that serves."""

    def __init__(self, service: Service, server: RPCServer, port: int) -> None:
        self.service = service
        self.server = server
        self.port = port
        self.target = f"127.0.0.1:{port}"

    async def stop(self, grace: float = 5) -> None:
        self.service.drain()
        await self.server.drain(grace)


@contextlib.asynccontextmanager
async def run_server(service: Service, registry: CollectorRegistry, port: int = 0) -> AsyncIterator[Running]:
    """A server on a port that is free for as long as the service is there, or on the given one."""
    server = RPCServer(service, Listen("127.0.0.1", port or held_port(service)), registry)
    running = Running(service, server, await server.start())
    server.set_serving(True)
    yield running
    await running.stop()


class Client:
    """The stubs of all services on one channel."""

    def __init__(self, target: str, options: Any = ()) -> None:
        self.channel = grpc.aio.insecure_channel(target, options=options)
        self.tasks: Any = TaskServiceStub(self.channel)
        self.topics: Any = TopicServiceStub(self.channel)
        self.promises: Any = PromiseServiceStub(self.channel)
        self.server: Any = ServerServiceStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()


def at(**after: float) -> Timestamp:
    """A time so long after now, in whole milliseconds."""
    stamp = Timestamp()
    stamp.FromMilliseconds(int((datetime.now(UTC) + timedelta(**after)).timestamp() * 1000))
    return stamp


async def insert(client: Any, *given: Task) -> None:
    await client.tasks.InsertTasks(tasks.InsertTasksRequest(tasks=given))


async def waiting(client: Any, topic: str, number: int) -> None:
    """Return once so many consumers wait for a topic; each look is a round trip, so that this is no busy loop."""
    async with asyncio.timeout(30):
        while True:
            stats = await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic=topic))
            if stats.waiting_consumers == number:
                return
