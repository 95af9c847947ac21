"""Two services on one engine, as two processes would be."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import pytest
from prometheus_client import CollectorRegistry

from ratus import times
from ratus.config import Limits, SQLiteSettings
from ratus.core import neighbours
from ratus.core.service import Service
from ratus.engines.base import Heard
from ratus.engines.sqlite import SQLiteEngine
from ratus.errors import StorageUnavailable
from ratus.model import Commit, PollRequest, Promise
from tests.core.conftest import MS, SECOND, claim, ids, insert, next_of, soon


class SharedEngine(SQLiteEngine):
    """An engine in memory that says it is shared, and tells of changes if it is asked to."""

    shared = True

    def __init__(self) -> None:
        super().__init__(SQLiteSettings(path=None))
        self.polls = 0
        self.heard: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        self.tells = False
        self.failures = 0
        self.faults = 0
        self.unheard = asyncio.Event()

    async def due_topics(self, topics: Sequence[str], now: datetime) -> list[str]:
        self.polls += 1
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("a bug in the engine")
        return await super().due_topics(topics, now)

    async def watch(self, heard: Heard) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("gone")
        if self.tells:
            self.heard.set_result(heard)
            heard(None, times.now())
            try:
                await asyncio.Event().wait()
            finally:
                self.unheard.set()


@pytest.fixture
async def engine() -> AsyncIterator[SharedEngine]:
    engine = SharedEngine()
    await engine.open()
    yield engine
    await engine.close()


@pytest.fixture
async def services(engine: SharedEngine) -> AsyncIterator[list[Service]]:
    services = [Service(engine, Limits(), CollectorRegistry()) for _ in range(2)]
    yield services
    for service in services:
        service.drain()
        await service.close()


async def test_a_poll_finds_what_others_have_inserted(services: list[Service]) -> None:
    here, there = services
    waiting = asyncio.create_task(claim(here, wait=30 * SECOND))
    assert await claim(here, wait=MS) == []
    await insert(there, "1")
    assert ids(await soon(waiting)) == ["1"]


async def test_a_fault_ends_nothing(
    services: list[Service], engine: SharedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = services
    engine.faults = 1
    waiting = asyncio.create_task(claim(here, wait=30 * SECOND))
    assert await claim(here, wait=MS) == []
    await insert(there, "1")
    assert ids(await soon(waiting)) == ["1"]
    assert sum(record.exc_info is not None for record in caplog.records) == 1


async def test_one_poll_asks_for_all_topics(services: list[Service], engine: SharedEngine) -> None:
    here, there = services
    streams = [here.subscribe(PollRequest(topics=[f"t{n}"])) for n in range(200)]
    listening = [asyncio.create_task(stream.next()) for stream in streams]
    await insert(there, "1", topic="t77")
    assert ids(await soon(listening[77])) == ["1"]
    assert engine.polls < 10
    for task, stream in zip(listening, streams, strict=True):
        task.cancel()
        await asyncio.wait([task])
        stream.close()


async def test_a_storage_that_tells_needs_no_poll(engine: SharedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_FIRST_POLL", 3600.0)
    engine.tells, engine.failures = True, 1  # the watch is begun again after a failure
    here = Service(engine, Limits(), CollectorRegistry())
    waiting = asyncio.create_task(claim(here, wait=30 * SECOND))
    heard = await soon(engine.heard)
    assert await claim(here) == []
    other = Service(SharedEngine(), Limits(), CollectorRegistry())
    other._engine = engine
    await insert(other, "1")
    heard("t", times.now())
    assert ids(await soon(waiting)) == ["1"]
    for service in (here, other):
        service.drain()
        await service.close()


async def test_a_storage_is_asked_to_tell_only_while_somebody_waits_in_vain(
    engine: SharedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_LINGER", 3.0)
    engine.tells = True
    here = Service(engine, Limits(), CollectorRegistry())
    await insert(here, "1")
    assert ids(await claim(here, wait=30 * SECOND)) == ["1"]
    assert await claim(here) == []
    assert not engine.heard.done()
    waiting = asyncio.create_task(claim(here, wait=30 * SECOND))
    await soon(engine.heard)
    await insert(here, "2")
    assert ids(await waiting) == ["2"]
    assert not engine.unheard.is_set()  # somebody may wait again soon
    await soon(engine.unheard.wait())
    here.drain()
    await here.close()


@pytest.mark.parametrize("how", ["gone", "late", "handed over"])
async def test_a_storage_need_not_tell_when_the_last_has_left(engine: SharedEngine, how: str) -> None:
    engine.tells = True
    here = Service(engine, Limits(), CollectorRegistry())
    stream = here.subscribe(PollRequest(topics=["t"], max_in_flight=1))
    waiting = asyncio.create_task(stream.next(300 * MS if how == "late" else None))
    await soon(engine.heard)
    if how == "gone":
        waiting.cancel()
    elif how == "late":
        assert await waiting == []
    else:
        await insert(here, "1")
        assert ids(await waiting) == ["1"]
    await soon(engine.unheard.wait())
    stream.close()
    here.drain()
    await here.close()


@pytest.mark.parametrize("how", ["commit", "promise", "delete"])
async def test_a_full_window_notices_what_others_have_settled(services: list[Service], how: str) -> None:
    here, there = services
    await insert(here, "1", "2")
    stream = here.subscribe(PollRequest(topics=["t"]))
    [task] = await next_of(stream)
    match how:
        case "commit":
            await there.commit_task(Commit(id="1", nonce=task.nonce))
        case "promise":
            await there.upsert_promise(Promise(id="1"))
        case "delete":
            await there.delete_task("1")
    assert ids(await next_of(stream)) == ["2"]
    stream.close()


async def test_what_others_have_taken_is_told(services: list[Service]) -> None:
    here, there = services
    await insert(here, "1")
    stream = here.subscribe(PollRequest(topics=["t"], max_in_flight=5), notices=True)
    await next_of(stream)
    await there.upsert_promise(Promise(id="1"))
    assert await next_of(stream) == []
    assert stream.take_lost() == ["1"]
    stream.close()
