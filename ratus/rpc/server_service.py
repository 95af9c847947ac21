"""ServerService on a backend."""

# ruff: noqa: N802 (the methods are named by the contract)

from typing import Any

import grpc

from ratus.backend import Backend
from ratus.rpc.times import write_duration, write_time
from ratus.v1 import server_service_pb2 as pb
from ratus.v1 import server_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ServerServicer(server_service_pb2_grpc.ServerServiceServicer):
    """Tells facts about the server."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        """Which server this is and what its clock says."""
        info = await self._backend.get_server_info()
        return pb.GetServerInfoResponse(
            version=info.version, engine=info.engine, time=write_time(info.time), uptime=write_duration(info.uptime)
        )
