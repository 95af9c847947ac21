"""An ASGI server of one request, whose client goes away at the worst of moments."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from gateway import create_app
from ratus.model import Task

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def task(id: str, size: int = 0) -> Task:
    return Task(id=id, topic="t", state=1, nonce=f"n{id}", produced=NOW, scheduled=NOW, producer="x" * size)


class Connection:
    """One request. Writes wait while `writable` is not set, and are lost once the client is gone, as in uvicorn."""

    def __init__(self, method: str, path: str, query: bytes = b"") -> None:
        self._scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": [],
        }
        self._gone = asyncio.Event()
        self._received = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.blocked = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.registry = CollectorRegistry()

    def go(self) -> None:
        """Lose the client: first the watcher learns of it, then whoever waits to write."""
        self._gone.set()
        self.writable.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if not self.writable.is_set():
            self.blocked.set()
            await self.writable.wait()
        if not self._gone.is_set():
            self.sent.append(message)

    def start(self, backend: Any) -> asyncio.Task[None]:
        self.app = create_app(backend, registry=self.registry)

        async def serve() -> None:
            await self.app(self._scope, self._receive, self._send)

        return asyncio.create_task(serve())

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    def counted(self, status: int) -> float | None:
        labels = {"status_code": str(status)}
        [metric] = [metric for metric in self.registry.collect() if metric.name == "ratus_request_duration_seconds"]
        for sample in metric.samples:
            if sample.name.endswith("_count") and labels.items() <= sample.labels.items():
                return sample.value
        return None
