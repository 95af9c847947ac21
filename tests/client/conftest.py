"""What the tests of the client share: a service behind a real port in this process, and a client of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import ratus
from ratus.core.service import Service
from tests.rpc.serving import Running, open_service, run_server
from tests.server import Server


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with open_service(CollectorRegistry()) as service:
        yield service


@pytest.fixture
async def running(service: Service) -> AsyncIterator[Running]:
    async with run_server(service, CollectorRegistry()) as running:
        yield running


@pytest.fixture
async def queue(running: Running) -> AsyncIterator[ratus.Queue]:
    async with ratus.connect(running.target, consumer="tests", patience="30s") as queue:
        yield queue


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server in a process of its own, on a file."""
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db"), "--chore-interval", "200ms") as server:
        yield server
