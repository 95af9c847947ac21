"""A clock that is set while others wait for what it is to show."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from ratus import times
from ratus.config import ChoreSettings
from ratus.core import alarm, delivery
from ratus.core.chores import run_chores
from ratus.core.service import Service
from ratus.model import PollRequest, TaskState
from tests.core.conftest import MS, SECOND, Engine, claim, ids, insert, next_of, soon

HOUR = timedelta(hours=1)
CHECK = 0.02

Set = Callable[[timedelta], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Set the clock ahead of the right time by so much."""
    monkeypatch.setattr(delivery, "_CLOCK_CHECK", CHECK)
    monkeypatch.setattr(alarm, "_CLOCK_CHECK", CHECK)
    now, ahead = times.now, timedelta(0)

    def set_to(difference: timedelta) -> None:
        nonlocal ahead
        ahead = difference

    monkeypatch.setattr(times, "now", lambda: now() + ahead)
    return set_to


async def test_a_task_whose_time_the_clock_jumps_over_is_handed_out(service: Service, set_clock: Set) -> None:
    await insert(service, "1", defer=HOUR)
    waiting = asyncio.create_task(claim(service, wait=60 * SECOND))
    assert await claim(service, wait=MS) == []
    set_clock(2 * HOUR)
    assert ids(await soon(waiting)) == ["1"]


async def test_a_clock_that_was_wrong_for_a_moment_only_delays_nothing(service: Service, set_clock: Set) -> None:
    waiting = asyncio.create_task(claim(service, wait=60 * SECOND))
    assert await claim(service, wait=MS) == []
    set_clock(-HOUR)
    await insert(service, "1", scheduled=times.now() + HOUR)
    assert await service.get_topic("t")  # by now a timer is set for the wrong time
    set_clock(timedelta(0))
    assert ids(await soon(waiting)) == ["1"]


async def test_a_window_has_room_again_when_the_clock_jumps_over_a_deadline(service: Service, set_clock: Set) -> None:
    await insert(service, "1", "2")
    stream = service.subscribe(PollRequest(topics=["t"], timeout=HOUR))
    assert ids(await next_of(stream)) == ["1"]
    waiting = asyncio.create_task(next_of(stream))
    assert await service.get_topic("t")  # by now the stream waits
    set_clock(2 * HOUR)
    assert ids(await waiting) == ["2"]
    stream.close()


async def test_after_a_jump_back_new_tasks_are_handed_out_and_missed_deadlines_acted_on(
    service: Service, set_clock: Set
) -> None:
    chores = asyncio.create_task(run_chores(service, ChoreSettings(interval=HOUR)))
    set_clock(HOUR)
    await insert(service, "far", defer=HOUR)
    await insert(service, "held")
    assert ids(await claim(service, timeout=HOUR)) == ["held"]
    waiting = asyncio.create_task(claim(service, wait=60 * SECOND, timeout=SECOND / 20))
    assert await claim(service, wait=MS) == []
    set_clock(timedelta(0))
    await insert(service, "new")
    assert ids(await soon(waiting)) == ["new"]
    assert ids(await soon(claim(service, wait=60 * SECOND))) == ["new"]  # again, as its deadline was missed
    assert (await service.get_task("held")).state == TaskState.ACTIVE  # its own goes by the clock
    chores.cancel()
    await asyncio.wait([chores])


async def test_nobody_works_for_a_clock_that_was_set(service: Service, engine: Engine, set_clock: Set) -> None:
    await insert(service, "1", defer=2 * HOUR)
    waiting = asyncio.create_task(claim(service, wait=60 * SECOND))
    assert await claim(service, wait=MS) == []
    before = engine.claims
    for ahead in (HOUR, -HOUR, timedelta(0)):
        set_clock(ahead)
        await asyncio.sleep(5 * CHECK)  # in which a loop would have done its harm
    assert engine.claims <= before + 3  # one look each time
    waiting.cancel()
    await asyncio.wait([waiting])
