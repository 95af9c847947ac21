"""The backends: the service itself, and a gRPC client in front of it."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from ratus.backend import Backend
from ratus.rpc.backend import RemoteBackend
from tests.rpc.serving import open_service, run_server


@pytest.fixture(params=["service", "remote"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    registry = CollectorRegistry()
    async with open_service(registry) as service:
        if request.param == "service":
            yield service
            return
        async with run_server(service, registry) as running:
            remote = RemoteBackend(running.target)
            yield remote
            await remote.close()
