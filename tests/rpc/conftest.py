"""What the tests of the gRPC face share."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from ratus.core.service import Service
from tests.rpc.serving import Client, Running, open_service, run_server


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def service(registry: CollectorRegistry) -> AsyncIterator[Service]:
    async with open_service(registry) as service:
        yield service


@pytest.fixture
async def running(service: Service, registry: CollectorRegistry) -> AsyncIterator[Running]:
    async with run_server(service, registry) as running:
        yield running


@pytest.fixture
async def client(running: Running) -> AsyncIterator[Client]:
    async with Client(running.target) as client:
        yield client
