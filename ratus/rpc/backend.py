"""The backend of a gateway that runs alone: a gRPC server elsewhere."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from ratus.errors import RatusError, StorageUnavailable, Unavailable
from ratus.model import PollRequest, Task
from ratus.rpc import wire
from ratus.rpc.connection import Connection
from ratus.rpc.remote_calls import RemoteCalls
from ratus.rpc.remote_stream import RemoteStream

READY_TIMEOUT: Final = 5.0  # seconds

_logger = logging.getLogger(__name__)


class RemoteBackend(RemoteCalls):
    """A `ratus.backend.Backend` over one channel to `target`, such as `127.0.0.1:50051`.

    With credentials it uses TLS. Create it inside the running loop. Without a connection calls raise
    StorageUnavailable at once.
    """

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._server = Connection(target, credentials=credentials)
        super().__init__(self._server)
        self._given_back: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give back what streams have left, cancel what is under way and close the channel."""
        if self._given_back:
            await asyncio.wait(self._given_back, timeout=READY_TIMEOUT)
        await self._server.close()

    def subscribe(self, request: PollRequest) -> RemoteStream:
        """Open a stream of due tasks; what the server refuses is raised by its first `next`."""
        [link] = self._server.links()
        return RemoteStream(link.promises.Poll(wire.write_poll(request)), self._give_back)

    def _give_back(self, tasks: Sequence[Task]) -> None:
        giving = asyncio.create_task(self._release(tasks))
        self._given_back.add(giving)
        giving.add_done_callback(self._given_back.discard)

    async def _release(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            try:
                await self.delete_promise(task.id, task.nonce)
            except RatusError as error:
                _logger.warning("a task could not be given back, it waits for its deadline: %s", error)

    async def check_ready(self) -> None:
        """Return if the server says that calls can be served now, else raise Unavailable."""
        try:
            request = health_pb2.HealthCheckRequest()
            health = await self._call(lambda link: link.health.Check, request, READY_TIMEOUT)
        except Unavailable:
            raise
        except RatusError as error:
            raise StorageUnavailable(f"the server does not tell its health: {error}") from error
        if health.status != health_pb2.HealthCheckResponse.SERVING:
            raise StorageUnavailable("the server is not ready")
