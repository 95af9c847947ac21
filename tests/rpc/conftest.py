"""A service on SQLite in memory behind a real port, and a client with the limits that clients have by default."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import CollectorRegistry

from ratus.config import Limits, Listen, SQLiteSettings
from ratus.core.service import Service
from ratus.engines.sqlite import SQLiteEngine
from ratus.rpc.server import RPCServer
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.server_service_pb2_grpc import ServerServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from ratus.v1.topic_service_pb2_grpc import TopicServiceStub


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def service(registry: CollectorRegistry) -> AsyncIterator[Service]:
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


@pytest.fixture
async def running(service: Service, registry: CollectorRegistry) -> AsyncIterator[Running]:
    server = RPCServer(service, Listen("127.0.0.1", 0), registry)
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


@pytest.fixture
async def client(running: Running) -> AsyncIterator[Client]:
    async with Client(running.target) as client:
        yield client
