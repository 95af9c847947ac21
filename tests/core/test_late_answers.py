"""Writes whose answers come after what they have led to: windows count what is delivered, no more and no less."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from ratus import rules, times
from ratus.core.service import Service
from ratus.core.subscription import Subscription
from ratus.errors import NonceMismatch, RatusError
from ratus.model import Commit, Extension, Hold, PollRequest, Promise, Task, TaskInput
from tests.core.conftest import Engine, complete, ids, insert, next_of, quiet, soon


class LateEngine(Engine):
    """Its writes are applied at once, and answered when the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.applied = asyncio.Event()

    async def _late(self) -> None:
        self.applied.set()
        await self.answers.wait()

    async def upsert(self, tasks: Sequence[Task]) -> list[bool]:
        created = await super().upsert(tasks)
        await self._late()
        return created

    async def commit(self, commits: Sequence[Commit], *, payloads: bool = True) -> list[Task | RatusError]:
        results = await super().commit(commits, payloads=payloads)
        await self._late()
        return results

    async def release(self, holds: Sequence[Hold]) -> list[str | None]:
        topics = await super().release(holds)
        await self._late()
        return topics

    async def delete_promise(self, id: str, nonce: str) -> str | None:
        topic = await super().delete_promise(id, nonce)
        await self._late()
        return topic

    async def delete(self, id: str) -> int:
        deleted = await super().delete(id)
        await self._late()
        return deleted


@pytest.fixture
async def engine() -> AsyncIterator[LateEngine]:
    engine = LateEngine()
    await engine.open()
    yield engine
    await engine.close()


def subscribe(service: Service) -> Subscription:
    return service.subscribe(PollRequest(topics=["t"], max_in_flight=1), notices=True)


@pytest.mark.parametrize(
    "how", ["commit", "commit without a nonce", "upsert", "delete", "release", "delete promise", "give back"]
)
async def test_what_was_delivered_anew_meanwhile_counts(service: Service, engine: LateEngine, how: str) -> None:
    await insert(service, "1")
    first = subscribe(service)
    [old] = await next_of(first)
    engine.answers.clear()
    engine.applied.clear()
    match how:
        case "commit":
            write = asyncio.ensure_future(service.commit_task(Commit(id="1", nonce=old.nonce, state=0)))
        case "commit without a nonce":
            write = asyncio.ensure_future(service.commit_task(Commit(id="1", state=0)))
        case "upsert":
            write = asyncio.ensure_future(service.upsert_task(TaskInput(id="1", topic="t")))
        case "delete":
            write = asyncio.ensure_future(service.delete_task("1"))
        case "release":
            write = asyncio.ensure_future(service.release_promises([Hold("1", old.nonce)]))
        case "delete promise":
            write = asyncio.ensure_future(service.delete_promise("1"))
        case "give back":
            write = asyncio.ensure_future(service.delete_promise("1", old.nonce))
    await engine.applied.wait()
    if how == "delete":
        await insert(service, "1")
    second = subscribe(service)
    [new] = await next_of(second)
    assert new.nonce != old.nonce
    engine.answers.set()
    await write
    await insert(service, "2")
    assert await quiet(second)
    assert second.holds() == [Hold("1", new.nonce)]
    assert second.take_lost() == []
    assert first.holds() == []
    await complete(service, [new])
    assert ids(await next_of(second)) == ["2"]
    first.close()
    second.close()


@pytest.mark.parametrize("how", ["commit", "upsert", "delete", "promise"])
async def test_what_was_void_when_it_was_delivered_does_not_count(
    service: Service, engine: LateEngine, how: str
) -> None:
    await insert(service, "1")
    engine.gate = asyncio.Event()
    stream = subscribe(service)
    listening = asyncio.create_task(stream.next())
    await engine.claimed.wait()  # its promise is stored
    engine.answers.clear()
    engine.applied.clear()
    match how:
        case "commit":
            write = asyncio.ensure_future(service.commit_task(Commit(id="1")))
        case "upsert":
            write = asyncio.ensure_future(service.upsert_task(TaskInput(id="1", topic="other")))
        case "delete":
            write = asyncio.ensure_future(service.delete_task("1"))
        case "promise":
            write = asyncio.ensure_future(service.upsert_promise(Promise(id="1")))
            engine.applied.set()
    await engine.applied.wait()
    engine.gate.set()
    assert ids(await soon(listening)) == ["1"]
    engine.answers.set()
    await write
    await insert(service, "2")
    engine.gate = None
    assert await next_of(stream) == []
    assert stream.take_lost() == ["1"]
    assert ids(await next_of(stream)) == ["2"]
    stream.close()


@pytest.mark.parametrize("how", ["commit", "extend", "release"])
async def test_a_promise_that_turns_out_to_be_void_makes_room(service: Service, engine: LateEngine, how: str) -> None:
    """Another process has ended it, or the answer to who has ended it came before the task did."""
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], max_in_flight=1))
    [held] = await next_of(stream)
    await engine.promise("1", rules.grant("elsewhere", None, None, times.now()), force=True)
    assert await quiet(stream)
    match how:
        case "commit":
            with pytest.raises(NonceMismatch):
                await service.commit_task(Commit(id="1", nonce=held.nonce))
        case "extend":
            [refusal] = await service.extend_promises([Extension(id="1", nonce=held.nonce)])
            assert isinstance(refusal, NonceMismatch)
        case "release":
            [refusal] = await service.release_promises([Hold("1", held.nonce)])
            assert isinstance(refusal, NonceMismatch)
    assert ids(await next_of(stream)) == ["2"]
    stream.close()
