"""A REST server on a real port, in a thread of its own so that tests can talk to it with any client."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry

from gateway import create_app
from ratus.backend import Backend
from ratus.config import ChoreSettings, Limits, SQLiteSettings
from ratus.core.chores import run_chores
from ratus.core.service import Service
from ratus.engines.sqlite import SQLiteEngine
from ratus.rpc.backend import RemoteBackend
from tests.rpc.serving import run_server

PAYLOAD_BYTES = 64 * 1024
REQUEST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Rest:
    """Where the server listens."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def __call__(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request whose path goes over the wire as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            content = body.encode() if isinstance(body, str) else body
            connection.request(method, path, content, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


class _Server(uvicorn.Server):
    """Tells when it accepts connections."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._accepting = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._accepting.set()


@asynccontextmanager
async def _backend(registry: CollectorRegistry, *, remote: bool) -> AsyncIterator[Backend]:
    """A service on tasks in memory, or a client of a gRPC server with one."""
    engine = SQLiteEngine(SQLiteSettings(path=None))
    await engine.open()
    service = Service(engine, Limits(payload_bytes=PAYLOAD_BYTES), CollectorRegistry() if remote else registry)
    chores = asyncio.create_task(run_chores(service, ChoreSettings(interval=timedelta(milliseconds=300))))
    if remote:
        async with run_server(service, CollectorRegistry()) as server:
            client = RemoteBackend(server.target)
            yield client
            await client.close()
    else:
        yield service
    chores.cancel()
    await asyncio.wait([chores])
    await service.close()
    await engine.close()


@contextmanager
def serving(*, remote: bool = False) -> Iterator[Rest]:
    """Serve for as long as the context lasts, in front of a service or of a gRPC server."""
    started = threading.Event()
    servers: list[_Server] = []

    async def serve() -> None:
        registry = CollectorRegistry()
        async with _backend(registry, remote=remote) as backend:
            app = create_app(backend, registry=registry, max_request_bytes=REQUEST_BYTES)
            config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
            servers.append(_Server(config, started))
            await servers[0].serve(sockets=[listener])

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert started.wait(10)
            yield Rest(listener.getsockname()[1])
        finally:
            servers[0].should_exit = True
            thread.join()
