"""Diagnose and Backup over gRPC."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from ratus import times
from ratus.config import MIB, Limits, SQLiteSettings
from ratus.core.service import Service
from ratus.engines.sqlite import SQLiteEngine, schema
from ratus.model import TaskInput
from ratus.rpc.errors import from_rpc_error
from ratus.v1 import server_service_pb2 as server
from tests.rpc.serving import Client, run_server


@pytest.fixture
async def file_client(tmp_path: Path) -> AsyncIterator[tuple[Client, Service]]:
    """A client of a server on a file with 3 MiB of tasks."""
    engine = SQLiteEngine(SQLiteSettings(path=str(tmp_path / "q.db")))
    await engine.open()
    registry = CollectorRegistry()
    service = Service(engine, Limits(), registry)
    payload = b'"%s"' % (b"x" * 100_000)
    await service.insert_tasks([TaskInput(id=str(n), topic="t", payload=payload) for n in range(30)])
    async with run_server(service, registry) as running, Client(running.target) as client:
        yield client, service
    await service.close()
    await engine.close()


async def test_a_copy_comes_in_parts(file_client: tuple[Client, Service], tmp_path: Path) -> None:
    client, _ = file_client
    parts = [part async for part in client.server.Backup(server.BackupRequest())]
    assert not parts[0].data
    assert all(0 < len(part.data) <= MIB for part in parts[1:])
    copy = b"".join(part.data for part in parts)
    assert {part.total_bytes for part in parts} == {len(copy)}
    path = tmp_path / "copy.db"
    path.write_bytes(copy)
    db = schema.connect_reader(str(path))
    assert db.execute("SELECT count(*) FROM task").get == 30
    assert db.execute("PRAGMA integrity_check").get == "ok"
    db.close()


async def test_one_copy_at_a_time(file_client: tuple[Client, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    client, service = file_client
    go, connect = threading.Event(), schema.connect_reader
    monkeypatch.setattr(schema, "connect_reader", lambda path: (go.wait(10), connect(path))[1])
    first = client.server.Backup(server.BackupRequest())
    reading = asyncio.create_task(first.read())
    async with asyncio.timeout(10):
        while not service.upkeep._copying:
            await client.server.GetServerInfo(server.GetServerInfoRequest())  # a round trip: no busy loop
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.server.Backup(server.BackupRequest()).read()
    assert str(from_rpc_error(caught.value)) == "too many: another backup is being made, wait for its end"
    go.set()
    assert (await reading).total_bytes > 3 * MIB
    first.cancel()
    async with asyncio.timeout(10):
        while service.upkeep._copying:  # a client that goes away frees the place
            await client.server.GetServerInfo(server.GetServerInfoRequest())
    async for part in client.server.Backup(server.BackupRequest()):
        assert part.total_bytes > 3 * MIB


async def test_memory_is_not_copied(client: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.server.Backup(server.BackupRequest()).read()
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "use export" in (caught.value.details() or "")


async def test_what_is_found_comes_with_its_outcome(client: Any) -> None:
    checks = (await client.server.Diagnose(server.DiagnoseRequest(thorough=True))).checks
    assert [(check.name, check.outcome) for check in checks] == [("database", 1), ("recovery", 1)]


async def test_missed_deadlines_that_nobody_acts_on(file_client: tuple[Client, Service]) -> None:
    client, service = file_client
    await service.insert_task(TaskInput(id="late", topic="t", state=1, deadline=times.now() - timedelta(hours=1)))
    [check] = [
        check for check in (await client.server.Diagnose(server.DiagnoseRequest())).checks if check.name == "recovery"
    ]
    assert check.outcome == server.CHECK_OUTCOME_FAILED
    assert "--chore-interval" in check.detail
