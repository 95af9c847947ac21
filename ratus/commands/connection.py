"""The one place where commands meet gRPC: the connection to a server, and the loop that they run in."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health_pb2

import ratus
from ratus.client.tls import TLS
from ratus.commands.failures import Failure, failure
from ratus.commands.options import Server
from ratus.errors import RatusError
from ratus.rpc.connection import Connection, Link
from ratus.rpc.errors import from_rpc_error
from ratus.rpc.remote_calls import RemoteCalls

T = TypeVar("T")

_LONG: Final = 600.0  # seconds, of a call that may read the whole storage
_SHORT: Final = 10.0
_PATIENCE: Final = 5.0  # to find the one of several servers that serves; of a single one it is known at once


class Client:
    """The calls of a server: in `calls` those that all faces have, here what only gRPC has."""

    def __init__(self, place: Server) -> None:
        self.target = place.target
        trust = tls(place)
        self._connection = Connection(
            *place.target.split(","),
            credentials=trust.credentials() if trust else None,
            metadata=dict(place.metadata),
            patience=_PATIENCE if "," in place.target else 0.0,
            user_agent=f"ratus-command/{ratus.__version__}",
        )
        self.calls = RemoteCalls(self._connection)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def call(self, method: Callable[[Link], Any], request: Any) -> Any:
        """The answer of a method. RatusError."""
        return await self._connection.call(method, request, timeout=_LONG)

    async def stream(self, method: Callable[[Link], Any], request: Any) -> AsyncIterator[Any]:
        """The answers of a method that streams. RatusError."""
        link = await self._connection.link()
        try:
            async for answer in method(link)(request, metadata=self._connection.metadata):
                yield answer
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def is_serving(self) -> bool:
        """What the health service says. RatusError."""
        request = health_pb2.HealthCheckRequest()
        health = await self._connection.call(lambda link: link.health.Check, request, timeout=_SHORT)
        return bool(health.status == health_pb2.HealthCheckResponse.SERVING)

    async def reflected(self) -> list[str]:
        """The services that reflection tells of. RatusError."""
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        link = await self._connection.link()
        stub = reflection_pb2_grpc.ServerReflectionStub(link.channel)  # type: ignore[no-untyped-call]  # generated
        requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
        call = stub.ServerReflectionInfo(iter(requests), timeout=_SHORT, metadata=self._connection.metadata)
        try:
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return [service.name for service in answer.list_services_response.service]


def tls(place: Server) -> TLS | None:
    """How the command and the server know each other; None if the connection is not encrypted."""
    if not (place.tls or place.ca or place.cert):
        return None
    return TLS(root_certificates=place.ca, certificate=place.cert, key=place.key)


def run(place: Server, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run with a connection until it is done; errors become Failures that tell what to do."""
    logging.getLogger("ratus").addHandler(logging.NullHandler())  # our errors say it all

    async def connected() -> T:
        client = Client(place)
        try:
            return await work(client)
        finally:
            await client.close()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(connected())
    except RatusError as error:
        raise failure(error, place.target) from None
    except OSError as error:
        if error.filename not in (place.ca, place.cert, place.key):
            raise
        raise Failure(f"cannot read {error.filename}: {error.strerror}") from None
