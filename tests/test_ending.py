"""Tasks that have to end."""

import asyncio

import pytest

from ratus import ending


async def test_a_cancellation_that_gets_lost_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_PATIENCE", 0.01)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    async def short() -> None:
        pass

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(short())]
    await tasks[1]
    async with asyncio.timeout(30):
        await ending.cancel(*tasks)
    assert swallowed == 2
    assert tasks[0].cancelled()
    assert not tasks[1].cancelled()
