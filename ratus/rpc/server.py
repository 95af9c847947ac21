"""The gRPC server."""

import ssl
from typing import Any, Final, cast

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from ratus.config import Listen
from ratus.core.service import Service
from ratus.http2.listener import Listener
from ratus.listening import bind
from ratus.rpc.calls import Calls
from ratus.rpc.health import Health
from ratus.rpc.metrics import RPCMetrics
from ratus.rpc.promise_service import PromiseServicer
from ratus.rpc.server_service import ServerServicer
from ratus.rpc.task_service import TaskServicer
from ratus.rpc.topic_service import TopicServicer
from ratus.v1 import (
    promise_service_pb2,
    promise_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
    topic_service_pb2,
    topic_service_pb2_grpc,
)

_SERVICES: Final = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (task_service_pb2, "TaskService"),
        (topic_service_pb2, "TopicService"),
        (promise_service_pb2, "PromiseService"),
        (server_service_pb2, "ServerService"),
    )
)
_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class RPCServer:
    """Serves the four services, health and reflection on one port, with TLS if there is a context for h2.

    Health says NOT_SERVING until `set_serving` is told otherwise.
    """

    def __init__(
        self,
        service: Service,
        listen: Listen,
        registry: CollectorRegistry,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._listen = listen
        self._context = context
        self._calls = Calls(RPCMetrics(registry))
        self._listener = Listener(self._calls)
        self._health = Health(_SERVICES)
        calls = cast(Any, self._calls)
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(TaskServicer(service), calls)
        topic_service_pb2_grpc.add_TopicServiceServicer_to_server(TopicServicer(service), calls)
        self._promises = PromiseServicer(service)
        promise_service_pb2_grpc.add_PromiseServiceServicer_to_server(self._promises, calls)
        server_service_pb2_grpc.add_ServerServiceServicer_to_server(ServerServicer(service), calls)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, calls)  # type: ignore[no-untyped-call]  # no stubs
        names = (*_SERVICES, _HEALTH, reflection.SERVICE_NAME)
        reflected = reflection.aio.ReflectionServicer(names)  # type: ignore[no-untyped-call]  # no stubs
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, calls)  # type: ignore[no-untyped-call]  # no stubs

    async def start(self) -> int:
        """Listen and serve; the port, which the system chooses for port 0. Raises StartError if it is taken."""
        sockets = bind("gRPC", self._listen)
        await self._listener.start(sockets, self._context)
        port: int = sockets[0].getsockname()[1]
        return port

    def set_serving(self, serving: bool) -> None:
        """Set the health of all services: whether the storage can be reached."""
        self._health.set_serving(serving)

    async def drain(self, grace: float) -> None:
        """Say NOT_SERVING, tell clients to go elsewhere, give calls under way up to `grace` seconds, and stop.

        Calls that clients send before they know are served, so that no client sees an error; the streams end when the
        core says that it drains. Returns when all handlers have returned, and what has come in
        on streams is carried out.
        """
        self._health.drain()
        await self._listener.drain(grace)
        await self._calls.ended()
        await self._promises.ended(grace)
