"""The checker is silent about a sound service under load, and finds every fault that is planted in one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from gateway import create_app
from gateway.protocol import Protocol
from ratus.config import ChoreSettings, Limits, SQLiteSettings
from ratus.core.chores import run_chores
from ratus.core.service import Service
from ratus.engines.sqlite import SQLiteEngine
from tests.reliability import faulty
from tests.reliability.checker import Finding, check
from tests.reliability.history import History, Outcome
from tests.reliability.load import Load, until
from tests.reliability.storage import stored_in
from tests.rpc.serving import run_server

COMMITS = 100
FAULTS = 3


@contextlib.asynccontextmanager
async def serving(engine: SQLiteEngine) -> AsyncIterator[tuple[str, str]]:
    """Both faces on real ports; the URL of the one and the target of the other."""
    registry = CollectorRegistry()
    service = Service(engine, Limits(), registry)
    chores = asyncio.create_task(run_chores(service, ChoreSettings(timedelta(milliseconds=300))))
    app = create_app(service, registry=registry, max_request_bytes=2**20)
    rest = uvicorn.Server(
        uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with run_server(service, registry) as running:
            main = asyncio.create_task(rest._serve(sockets=[listener]))  # without its handlers of signals
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", running.target
            rest.should_exit = True
            await main
    chores.cancel()
    await asyncio.wait([chores])
    await service.close()


async def findings_of(engine: SQLiteEngine) -> list[Finding]:
    """What the checker finds after some work."""
    history = History()

    def worked() -> bool:
        planted = not isinstance(engine, faulty.Faulty) or engine.planted >= FAULTS
        return planted and sum(one.span.outcome is Outcome.OK for one in history.commits) >= COMMITS

    await engine.open()
    async with serving(engine) as server, Load([server], 1, history).running():
        await until(worked, 60, "commits")
    if isinstance(engine, faulty.Undoes):
        await engine.settle()
    stored = await stored_in(engine)
    await engine.close()
    return check(history, stored)


async def test_nothing_is_found_in_a_sound_service() -> None:
    assert await findings_of(SQLiteEngine(SQLiteSettings(path=None))) == []


@pytest.mark.parametrize(
    ("engine", "rule"),
    [
        (faulty.Forgets, "lost"),
        (faulty.HandsOutTwice, "handed out twice"),
        (faulty.IgnoresNonces, "committed twice"),
        (faulty.Undoes, "undone"),
        (faulty.Undoes, "unexplained end"),
        (faulty.IsEarly, "early"),
        (faulty.Refuses, "refused"),
        (faulty.CompletesByItself, "unexplained end"),
    ],
)
async def test_a_planted_fault_is_found(engine: type[faulty.Faulty], rule: str) -> None:
    assert rule in {finding.rule for finding in await findings_of(engine())}
