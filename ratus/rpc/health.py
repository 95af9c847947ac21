"""`grpc.health.v1.Health`, whose watchers leave when the server drains (those of grpcio-health-checking never do)."""

# ruff: noqa: N802 (the methods are named by the contract)

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ratus.errors import Draining

Context = grpc.aio.ServicerContext[Any, Any]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """The health of the named services and, under the empty name, of the server: one and the same for all."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._serving = False
        self._draining = False
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Say whether calls can be served now; once the server drains it stays at no."""
        if not self._draining and serving != self._serving:
            self._serving = serving
            self._wake()

    def drain(self) -> None:
        """Say NOT_SERVING for good, then end the watches with Draining."""
        self._serving, self._draining = False, True
        self._wake()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """The health of a service; NOT_FOUND for one that is not served."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: health_pb2.HealthListRequest, context: Context) -> health_pb2.HealthListResponse:
        """The health of everything that is served."""
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in self._services}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """The health of a service now and whenever it changes."""
        last = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                last = status
            elif self._draining:
                raise Draining()
            else:
                await changed.wait()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return _UNKNOWN
        return _SERVING if self._serving else _NOT_SERVING

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
