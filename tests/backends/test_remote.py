"""What only the remote backend has: a connection that can be missing."""

import asyncio
import socket
import time
from datetime import timedelta

import grpc
import pytest
from prometheus_client import CollectorRegistry

from ratus.errors import Draining, StorageUnavailable, TooLarge, Unavailable
from ratus.model import ClaimRequest, PageRequest, TaskInput
from ratus.rpc.backend import RemoteBackend
from ratus.rpc.connection import TIMEOUT
from tests.rpc.serving import open_service, run_server


async def test_without_a_server_calls_are_unavailable_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        backend = RemoteBackend(f"127.0.0.1:{unused.getsockname()[1]}")
        begin = time.monotonic()
        for _ in range(3):
            with pytest.raises(StorageUnavailable, match=r"^service unavailable: the server cannot be reached$"):
                await backend.get_task("a")
            with pytest.raises(Unavailable):
                await backend.check_ready()
        assert time.monotonic() - begin < TIMEOUT
        await backend.close()


async def test_it_finds_a_server_that_comes_back() -> None:
    registry = CollectorRegistry()
    async with open_service(registry) as service:
        async with run_server(service, registry) as first:
            port = first.port
            backend = RemoteBackend(f"127.0.0.1:{port}")
            await backend.check_ready()
        with pytest.raises(Unavailable):
            await backend.check_ready()
    registry = CollectorRegistry()
    async with open_service(registry) as service, run_server(service, registry, port):
        async with asyncio.timeout(30):
            while True:  # the channel looks for the server by itself; each call fails at once until it has found it
                try:
                    await backend.check_ready()
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)
        assert (await backend.insert_task(TaskInput(id="a", topic="t"))).created == 1
    await backend.close()


async def test_readiness_is_what_the_health_service_says() -> None:
    registry = CollectorRegistry()
    async with open_service(registry) as service, run_server(service, registry) as running:
        backend = RemoteBackend(running.target)
        running.server.set_serving(False)
        with pytest.raises(StorageUnavailable, match="the server is not ready"):
            await backend.check_ready()
        running.server.set_serving(True)
        await backend.check_ready()
        await backend.close()


async def test_something_else_than_ratus_is_not_ready() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    backend = RemoteBackend(f"127.0.0.1:{port}")
    with pytest.raises(Unavailable):
        await backend.check_ready()
    await backend.close()
    await server.stop(None)


async def test_a_server_that_drains_says_so() -> None:
    registry = CollectorRegistry()
    async with open_service(registry) as service, run_server(service, registry) as running:
        backend = RemoteBackend(running.target)
        await backend.check_ready()
        running.service.drain()
        with pytest.raises(Draining, match=r"^service unavailable: connect elsewhere$"):
            await backend.claim_tasks(ClaimRequest(topic="t", wait=timedelta(minutes=1)))
        await backend.close()


async def test_a_batch_beyond_the_limit_of_a_message_is_too_large() -> None:
    registry = CollectorRegistry()
    async with open_service(registry) as service, run_server(service, registry) as running:
        backend = RemoteBackend(running.target)
        payload = b'"' + b"x" * 1_000_000 + b'"'
        for number in (34, 70):
            with pytest.raises(TooLarge):
                await backend.insert_tasks([TaskInput(id=str(n), topic="t", payload=payload) for n in range(number)])
        assert not (await backend.list_tasks("", PageRequest())).items
        await backend.close()
