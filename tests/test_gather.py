"""Gathering of concurrent calls."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from ratus import gather
from ratus.gather import Gatherer, quiet


class Runner:
    """Notes its batches; each waits to be let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Semaphore(0)

    async def run(self, entries: Sequence[int]) -> list[int]:
        self.batches.append(list(entries))
        await self.gate.acquire()
        if -1 in entries:
            raise ValueError(entries)
        return [entry * 10 for entry in entries]

    async def begun(self, count: int) -> None:
        while len(self.batches) < count:  # noqa: ASYNC110 (a turn of the loop or two)
            await asyncio.sleep(0)

    def release(self, count: int = 1) -> None:
        for _ in range(count):
            self.gate.release()


async def test_what_comes_in_meanwhile_is_one_batch() -> None:
    runner = Runner()
    gatherer = Gatherer(runner.run)
    calls = [asyncio.create_task(gatherer.submit([1, 2]))]
    await runner.begun(1)
    calls += [asyncio.create_task(gatherer.submit([n])) for n in (3, 4)]
    runner.release(2)
    assert await asyncio.gather(*calls) == [[10, 20], [30], [40]]
    assert runner.batches == [[1, 2], [3, 4]]


async def test_an_idle_gatherer_starts_at_once_and_again() -> None:
    runner = Runner()
    runner.release(2)
    gatherer = Gatherer(runner.run)
    assert await gatherer.submit([1]) == [10]
    assert await gatherer.submit([2]) == [20]
    assert await gatherer.submit([]) == []
    assert runner.batches == [[1], [2]]


async def test_a_batch_is_bounded_by_weight() -> None:
    runner = Runner()
    runner.release(10)
    gatherer = Gatherer(runner.run, limit=10, weigh=lambda entry: entry)
    calls = [asyncio.create_task(gatherer.submit([entry])) for entry in (4, 5, 2, 20, 1)]
    await asyncio.gather(*calls)
    assert runner.batches == [[4, 5], [2], [20], [1]]


async def test_a_batch_is_bounded_but_a_call_is_never_split() -> None:
    runner = Runner()
    runner.release(10)
    gatherer = Gatherer(runner.run, limit=3)
    calls = [asyncio.create_task(gatherer.submit(entries)) for entries in ([1, 2], [3], [4], [5, 6, 7, 8], [9])]
    await asyncio.gather(*calls)
    assert runner.batches == [[1, 2, 3], [4], [5, 6, 7, 8], [9]]


async def test_a_cancelled_call_leaves_its_batch_alone_and_is_dropped_when_it_waits() -> None:
    runner = Runner()
    gatherer = Gatherer(runner.run)
    calls = [asyncio.create_task(gatherer.submit([n])) for n in (1, 2)]
    await runner.begun(1)
    calls += [asyncio.create_task(gatherer.submit([n])) for n in (3, 4)]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[2].cancel()
    await asyncio.sleep(0)
    runner.release(2)
    assert await calls[1] == [20]
    assert await calls[3] == [40]
    assert calls[0].cancelled()
    assert runner.batches == [[1, 2], [4]]


async def test_an_error_is_that_of_its_batch_only() -> None:
    runner = Runner()
    gatherer = Gatherer(runner.run)
    calls = [asyncio.create_task(gatherer.submit([n])) for n in (1, -1)]
    await runner.begun(1)
    calls.append(asyncio.create_task(gatherer.submit([2])))
    runner.release(2)
    for call in calls[:2]:
        with pytest.raises(ValueError):
            await call
    assert await calls[2] == [20]


async def test_close_waits_for_what_was_begun() -> None:
    runner = Runner()
    gatherer = Gatherer(runner.run)
    calls = [asyncio.create_task(gatherer.submit([n])) for n in (1, 2)]
    await runner.begun(1)
    closing = asyncio.create_task(gatherer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    runner.release()
    await closing
    assert all(call.done() for call in calls)
    await gatherer.close()


async def test_what_comes_alone_does_not_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = 0

    async def counted(count: Callable[[], int], enough: int) -> None:
        nonlocal waits
        waits += 1
        await quiet(count, enough)

    monkeypatch.setattr(gather, "quiet", counted)
    runner = Runner()
    runner.release(10)
    gatherer = Gatherer(runner.run)
    for number in range(3):
        await gatherer.submit([number])
    assert waits == 0
    await asyncio.gather(gatherer.submit([3]), gatherer.submit([4]))
    assert waits > 0
    await gatherer.submit([5])
    waits = 0
    await gatherer.submit([6])
    assert waits == 0
