"""ServerService on the core service."""

# ruff: noqa: N802 (the methods are named by the contract)

import asyncio
import os
from typing import Any, Final

import grpc

from ratus.config import MIB
from ratus.core.service import Service
from ratus.rpc.times import write_duration, write_time
from ratus.v1 import server_service_pb2 as pb
from ratus.v1 import server_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_CHUNK: Final = MIB  # bytes of a copy in a message


class ServerServicer(server_service_pb2_grpc.ServerServiceServicer):
    """Tells facts about the server, and sends copies of its storage."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        """Which server this is and what its clock says."""
        info = await self._service.get_server_info()
        return pb.GetServerInfoResponse(
            version=info.version, engine=info.engine, time=write_time(info.time), uptime=write_duration(info.uptime)
        )

    async def Diagnose(self, request: pb.DiagnoseRequest, context: Context) -> pb.DiagnoseResponse:
        """What an operator should know."""
        checks = await self._service.upkeep.diagnose(thorough=request.thorough)
        return pb.DiagnoseResponse(
            checks=[
                pb.Check(name=check.name, outcome=check.outcome.value, detail=check.detail)  # type: ignore[arg-type]
                for check in checks
            ]
        )

    async def Backup(  # type: ignore[override]  # a coroutine that writes, which the stubs do not know
        self, request: pb.BackupRequest, context: Context
    ) -> None:
        """Send a copy of the storage."""
        async with self._service.upkeep.backup() as copy:
            total = os.fstat(copy.fileno()).st_size
            await context.write(pb.BackupResponse(total_bytes=total))
            while data := await asyncio.to_thread(copy.read, _CHUNK):
                await context.write(pb.BackupResponse(data=data, total_bytes=total))
