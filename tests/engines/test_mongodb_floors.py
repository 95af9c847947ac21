"""Claims begin where the last one has ended, and still neither pass an earlier task by nor leave one behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine, floors
from ratus.engines.mongodb.floors import Floor, Floors
from tests.engines.helpers import HOUR, MS, NOW, SECOND, claim, commit, hold, ids, insert, task, until


@pytest.fixture
async def engines(mongodb_settings: MongoDBSettings) -> AsyncIterator[list[MongoDBEngine]]:
    """Two processes on one collection; the first has a floor, and further due tasks above it."""
    engines = [MongoDBEngine(mongodb_settings) for _ in range(2)]
    for engine in engines:
        await engine.open()
        await engine.indexed.wait()
    here = engines[0]
    await insert(here, *(task(f"{n:03}", scheduled=NOW - HOUR + n * SECOND) for n in range(200)))
    assert ids(await claim(here, count=5)) == [f"{n:03}" for n in range(5)]
    assert ids(await claim(here)) == ["005"]
    yield engines
    for engine in engines:
        await engine.close()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("how", ["insert", "upsert", "commit", "commits", "release", "delete", "delete all", "recover"])
async def test_what_becomes_pending_here_is_claimed_in_its_order(
    engines: list[MongoDBEngine], how: str, count: int
) -> None:
    here, _ = engines
    early = NOW - 2 * HOUR
    held = await here.list_promises("t", "", 0, 10)
    expected = ["early"]
    match how:
        case "insert":
            await insert(here, task("early", scheduled=early))
        case "upsert":
            await here.upsert([task("early", scheduled=early)])
        case "commit":
            await here.commit([commit(held[0], state=0)])
            expected = ["000"]
        case "commits":
            await here.commit([commit(held[3], state=0), commit(held[4], state=0, scheduled=early)])
            expected = ["004", "003"]
        case "release":
            await here.release([hold(held[2])])
            expected = ["002"]
        case "delete":
            await here.delete_promise("001", "")
            expected = ["001"]
        case "delete all":
            await here.delete_promises("t")
            expected = [f"{n:03}" for n in range(6)]
        case "recover":
            await here.recover(NOW + 2 * HOUR)
            expected = [f"{n:03}" for n in range(6)]
    following = [*expected, "006", "007", "008"][:count]
    assert ids(await claim(here, count=count)) == following
    assert ids(await claim(here)) == [[*expected, "006", "007", "008"][count]]


async def test_an_insert_beside_a_claim_is_not_left_behind(engines: list[MongoDBEngine]) -> None:
    here, _ = engines
    for n in range(30):
        early = task(f"early-{n}", scheduled=NOW - 2 * HOUR + n * MS)
        taken, _ = await asyncio.gather(claim(here, count=2), insert(here, early))
        found = {*ids(taken), *ids(await claim(here))}
        assert early.id in found


async def test_what_others_make_pending_earlier_is_found_before_long(
    engines: list[MongoDBEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = engines
    monkeypatch.setattr(floors, "_SHARE", 0)  # however slow the first look was, there soon is another one
    await insert(there, task("early", scheduled=NOW - 2 * HOUR))

    async def found() -> bool:
        [one] = await claim(here)
        assert one.id != "199", "it was passed by until nothing else was left"
        return one.id == "early"

    await until(found)


async def test_a_topic_is_not_dry_while_others_have_something_below(engines: list[MongoDBEngine]) -> None:
    here, there = engines
    for count in (1, 3):
        while await claim(here, count=100):
            pass
        await insert(there, task(f"early {count}", scheduled=NOW - 2 * HOUR))
        assert ids(await claim(here, count=count)) == [f"early {count}"]


async def test_what_a_change_stream_tells_lowers_the_floor(engines: list[MongoDBEngine]) -> None:
    here, there = engines
    begun, told = asyncio.Event(), asyncio.Event()
    watch = asyncio.create_task(here.watch(lambda topic, _: told.set() if topic == "t" else begun.set()))
    await asyncio.wait_for(begun.wait(), 30)
    await claim(here)
    await insert(there, task("early", scheduled=NOW - 2 * HOUR))
    await asyncio.wait_for(told.wait(), 30)
    assert ids(await claim(here)) == ["early"]
    watch.cancel()
    await asyncio.wait([watch])


def test_a_floor_is_not_lifted_over_what_it_was_lowered_for() -> None:
    floor = Floor()
    floor.lift(NOW, floor.lowered)
    assert floor.at == NOW
    lowered = floor.lowered
    floor.lower(NOW - HOUR)
    floor.lift(NOW + HOUR, lowered)
    assert floor.at == NOW - HOUR
    floor.lower(NOW)
    assert floor.at == NOW - HOUR
    floor.lower(None)
    assert floor.at is None


def test_floors_are_bounded() -> None:
    floors = Floors()
    for n in range(20_000):
        floors.of(f"t{n}").lift(NOW, 0)
    assert floors.of("t19999").at == NOW
    assert floors.of("t0").at is None
    assert len(floors._floors) <= 10_000
