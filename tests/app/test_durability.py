"""What was acknowledged survives the end of the server, in order or not."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest

from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from tests.app.conftest import Start
from tests.server import Server

DURABLE = pytest.mark.parametrize("engine_args", ["sqlite", "mongodb"], indirect=True)


@DURABLE
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_loses_nothing(start: Start, engine_args: list[str], number: int) -> None:
    server = start(*engine_args)
    with httpx.Client(base_url=server.url, timeout=60) as rest:
        batch = {"data": [{"_id": f"b{n}", "payload": {"n": n}} for n in range(100)]}
        assert rest.post("/v1/topics/t/tasks", json=batch).json() == {"created": 100, "updated": 0}
        held = rest.post("/v1/topics/t/promises?consumer=c").json()
        done = rest.post("/v1/topics/t/promises").json()
        assert rest.patch(f"/v1/topics/t/tasks/{done['_id']}", json={"nonce": done["nonce"]}).status_code == 200
        before = rest.get("/v1/topics/t/tasks?limit=100").json()
    server.stop(number)
    server = start(*engine_args)
    with httpx.Client(base_url=server.url, timeout=60) as rest:
        assert rest.get("/v1/topics/t/tasks?limit=100").json() == before
        answer = rest.patch(f"/v1/topics/t/tasks/{held['_id']}", json={"nonce": held["nonce"]})
        assert answer.status_code == 200
        assert rest.get("/v1/topics/t").json() == {"name": "t", "count": 100}


async def stream(target: str, window: int) -> AsyncIterator[tuple[str, str]]:
    """The IDs and nonces of what a stream delivers; ends with the stream's error."""
    async with grpc.aio.insecure_channel(target) as channel:
        request = promises_pb.PollRequest(topics=["t"], max_in_flight=window)
        async for answer in PromiseServiceStub(channel).Poll(request):
            for task in answer.tasks:
                yield task.id, task.nonce


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine_args", ["sqlite", "mongodb", "workers"], indirect=True)
async def test_a_drain_under_load_loses_nothing(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)
    inserted: set[str] = set()
    committed: set[str] = set()
    refused: list[str] = []
    loaded = asyncio.Event()

    async def produce(worker: int) -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as rest:
            for number in range(100_000):
                id = f"{worker}-{number}"
                try:
                    answer = await rest.post(f"/v1/topics/t/tasks/{id}", json={})
                except httpx.TransportError:
                    return
                if answer.status_code != 201:
                    refused.append(answer.text)
                    return
                inserted.add(id)

    async def consume() -> grpc.aio.AioRpcError:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as rest:
            try:
                async for id, nonce in stream(server.target, 10):
                    try:
                        answer = await rest.patch(f"/v1/topics/t/tasks/{id}", json={"nonce": nonce})
                    except httpx.TransportError:
                        continue
                    if answer.status_code == 200:
                        committed.add(id)
                    if len(committed) == 300:
                        loaded.set()
            except grpc.aio.AioRpcError as error:
                return error
        raise AssertionError("the stream ended without an error")

    producers = [asyncio.create_task(produce(n)) for n in range(8)]
    consumers = [asyncio.create_task(consume()) for _ in range(4)]
    await asyncio.wait_for(loaded.wait(), 200)
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.gather(*producers)
    for error in await asyncio.gather(*consumers):
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    assert all("service unavailable" in text for text in refused)

    server = start(*engine_args)
    states: dict[str, int] = {}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as rest:
        for offset in range(0, 10_000, 100):
            page = (await rest.get(f"/v1/topics/t/tasks?limit=100&offset={offset}")).json()["data"]
            states.update((task["_id"], task["state"]) for task in page)
            if not page:
                break
    assert len(inserted) >= 300
    assert len(inserted) < 10_000
    assert inserted <= states.keys()
    assert all(states[id] == 2 for id in committed)


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    args = ["--sqlite-path", str(tmp_path / "q.db")]
    with Server(tmp_path / "log", *args) as server:
        server.kill()
    with Server(tmp_path / "log", *args) as server:
        assert httpx.get(server.url + "/readyz", timeout=60).status_code == 200
