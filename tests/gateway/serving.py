"""A REST server on a real port, in a thread of its own so that tests can talk to it with any client."""

import asyncio
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry

from gateway import create_app
from gateway.protocol import Protocol
from ratus.backend import Backend
from ratus.config import ChoreSettings, Limits, SQLiteSettings
from ratus.core.chores import run_chores
from ratus.core.service import Service
from ratus.engines.sqlite import SQLiteEngine
from ratus.model import TopicStats
from ratus.rpc.backend import RemoteBackend
from tests.rpc.serving import run_server

T = TypeVar("T")

PAYLOAD_BYTES = 64 * 1024
REQUEST_BYTES = 1024 * 1024

_COUNTED = re.compile(
    r"ratus_request_duration_seconds_count"
    r'{endpoint="(.*)",method="(.*)",status_code="(.*)",topic="(.*)"} (\d+)\.0'
)


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
    """Where the server listens, and the service behind it with the loop that it runs in."""

    port: int
    service: Service
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def __call__(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request whose path goes over the wire as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body.encode() if isinstance(body, str) else body
            connection.request(method, path, content, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop of the service."""
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(60)

    def stats(self, topic: str) -> TopicStats:
        return self.run(self.service.get_topic_stats(topic))

    def until(self, topic: str, **wanted: int) -> TopicStats:
        """Look, a round trip each, until a topic is doing as wanted, such as `waiting_consumers=1`."""
        end = time.monotonic() + 60
        while True:
            stats = self.stats(topic)
            if all(getattr(stats, name) == value for name, value in wanted.items()):
                return stats
            assert time.monotonic() < end, stats

    def drain(self) -> None:
        self.loop.call_soon_threadsafe(self.service.drain)

    def insert(self, topic: str, *payloads: Any, names: str = "", **fields: Any) -> list[str]:
        """Insert a task for each payload; the ids, which are in order."""
        ids = [f"{names or topic}-{number:04}" for number in range(len(payloads))]
        tasks = [{"_id": id, "payload": payload, **fields} for id, payload in zip(ids, payloads, strict=True)]
        reply = self("POST", f"/v1/topics/{quote(topic, safe='')}/tasks", json.dumps({"data": tasks}))
        assert (reply.status, reply.json["created"]) == (201, len(payloads))
        return ids

    def commit(self, task: Any, **fields: Any) -> Reply:
        """Commit a task that was delivered."""
        body = json.dumps({"nonce": task["nonce"], **fields})
        return self("PATCH", f"/v1/topics//tasks/{quote(task['_id'], safe='')}", body)

    def requests(self, topic: str) -> dict[tuple[str, str, str], int]:
        """How often the metrics have seen a request of this topic, by method, endpoint and status."""
        return {
            (method, endpoint, status): int(count)
            for endpoint, method, status, of, count in _COUNTED.findall(self("GET", "/metrics").body.decode())
            if of == topic
        }


class _Server(uvicorn.Server):
    """Tells when it accepts connections."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._accepting = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._accepting.set()


@asynccontextmanager
async def _backend(registry: CollectorRegistry, *, remote: bool) -> AsyncIterator[tuple[Service, Backend]]:
    """A service on tasks in memory, and itself or the client of a gRPC server with it."""
    engine = SQLiteEngine(SQLiteSettings(path=None))
    await engine.open()
    service = Service(engine, Limits(payload_bytes=PAYLOAD_BYTES), CollectorRegistry() if remote else registry)
    chores = asyncio.create_task(run_chores(service, ChoreSettings(interval=timedelta(milliseconds=300))))
    if remote:
        async with run_server(service, CollectorRegistry()) as server:
            client = RemoteBackend(server.target)
            yield service, client
            await client.close()
    else:
        yield service, service
    chores.cancel()
    await asyncio.wait([chores])
    await service.close()
    await engine.close()


@contextmanager
def serving(*, remote: bool = False, protocol: type[Protocol] = Protocol) -> Iterator[Rest]:
    """Serve for as long as the context lasts, in front of a service or of a gRPC server."""
    started = threading.Event()
    servers: list[_Server] = []
    rests: list[Rest] = []

    async def serve() -> None:
        registry = CollectorRegistry()
        async with _backend(registry, remote=remote) as (service, backend):
            app = create_app(backend, registry=registry, max_request_bytes=REQUEST_BYTES)
            config = uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=10,
            )
            rests.append(Rest(listener.getsockname()[1], service, asyncio.get_running_loop()))
            servers.append(_Server(config, started))
            await servers[0].serve(sockets=[listener])

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert started.wait(60)
            yield rests[0]
        finally:
            servers[0].should_exit = True
            thread.join()
