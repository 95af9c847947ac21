"""The gRPC server."""

import errno
import socket
from typing import Any, Final, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from ratus.config import Listen
from ratus.core.service import Service
from ratus.errors import StartError
from ratus.rpc.calls import MAX_RECEIVE_BYTES, Calls
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

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", -1),
    # Calls beyond the first of these wait; beyond the second they fail. A short stall of the loop must fail none.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # A connection that does not begin to speak HTTP/2 (and TLS, where that is spoken) is ended; by default after 120 s.
    ("grpc.server_handshake_timeout_ms", 20_000),
    # Notice a dead client within a minute, and let clients look for a dead server.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
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
    """Serves the four services, health and reflection on one port, with TLS if there are credentials.

    Create it inside the running loop.

    Health says NOT_SERVING until `set_serving` is told otherwise.
    """

    def __init__(
        self,
        service: Service,
        listen: Listen,
        registry: CollectorRegistry,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._listen = listen
        self._credentials = credentials
        # Unless the port is shared on purpose, a second server must not do it in silence.
        self._server = grpc.aio.server(options=(*OPTIONS, ("grpc.so_reuseport", int(listen.shared))))
        self._calls = Calls(self._server, RPCMetrics(registry))
        self._health = Health(_SERVICES)
        calls = cast(Any, self._calls)
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(TaskServicer(service), calls)
        topic_service_pb2_grpc.add_TopicServiceServicer_to_server(TopicServicer(service), calls)
        self._promises = PromiseServicer(service)
        promise_service_pb2_grpc.add_PromiseServiceServicer_to_server(self._promises, calls)
        server_service_pb2_grpc.add_ServerServiceServicer_to_server(ServerServicer(service), calls)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, calls)  # type: ignore[no-untyped-call]
        names = (*_SERVICES, _HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)  # type: ignore[no-untyped-call]

    async def start(self) -> int:
        """Listen and serve; the port, which the system chooses for port 0. Raises StartError if it is taken."""
        host = f"[{self._listen.host}]" if ":" in self._listen.host else self._listen.host
        address = f"{host}:{self._listen.port}"
        try:
            if not self._listen.shared:
                _try_to_bind(self._listen)
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except OSError as error:
            raise StartError(f"cannot serve gRPC on {address}: {error.strerror}") from None
        except RuntimeError:  # somebody was faster, or the certificate is not to the library's taste
            why = "the port is taken" + (", or it does not know this kind of key" if self._credentials else "")
            raise StartError(f"cannot serve gRPC on {address}: {why}") from None
        await self._server.start()
        return port

    def set_serving(self, serving: bool) -> None:
        """Set the health of all services: whether the storage can be reached."""
        self._health.set_serving(serving)

    async def drain(self, grace: float) -> None:
        """Say NOT_SERVING, refuse new calls, give those under way up to `grace` seconds, and stop.

        The streams end when the core says that it drains. Returns when all handlers have returned, and what has come in
        on streams is carried out.
        """
        self._health.drain()
        self._calls.drain()
        await self._server.stop(grace)
        await self._calls.ended()
        await self._promises.ended(grace)


def _try_to_bind(listen: Listen) -> None:
    """Raise the OSError that the gRPC library would only log."""
    errors: list[OSError] = []
    addresses = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, type, protocol, _, address in addresses:
        try:
            with socket.socket(family, type, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            errors.append(error)
            if error.errno == errno.EADDRINUSE:
                raise
    if len(errors) == len(addresses):  # a name may stand for an address that this machine does not have
        raise errors[0]
