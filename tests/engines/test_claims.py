"""Claims that come at the same time, which engines run together."""

import asyncio
from collections.abc import Sequence

from ratus.engines.base import Engine
from ratus.model import Task, TaskState
from tests.engines.helpers import ANY_SIZE, HOUR, MS, NOW, grants, hold, ids, insert, task


async def claims(engine: Engine, *wanted: tuple[str, int], max_bytes: int = ANY_SIZE) -> list[list[str]]:
    """The IDs for claims at the same time, each of a topic and so many tasks, in their order."""
    results = await asyncio.gather(*(engine.claim(topic, grants(count), max_bytes) for topic, count in wanted))
    return [ids(tasks) for tasks in results]


async def test_they_are_served_in_their_order(engine: Engine) -> None:
    await insert(engine, *(task(f"{topic}{number}", topic) for number in range(4) for topic in "ab"))
    assert await claims(engine, ("a", 1), ("b", 2), ("a", 2), ("c", 1), ("a", 3), ("a", 1), ("b", 1)) == [
        ["a0"],
        ["b0", "b1"],
        ["a1", "a2"],
        [],
        ["a3"],
        [],
        ["b2"],
    ]


async def test_what_a_cancelled_caller_would_have_got_is_not_lost(engine: Engine) -> None:
    await insert(engine, *(task(str(number)) for number in range(6)))
    abandoned: list[Task] = []
    callers = [asyncio.create_task(engine.claim("t", grants(1), ANY_SIZE, abandoned.extend)) for _ in range(6)]
    for caller in callers[1:5]:  # at different stages
        await asyncio.sleep(0)
        caller.cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    answered = [task for tasks in results if not isinstance(tasks, BaseException) for task in tasks]
    assert len(answered) == 2
    active = {f"{number}" for number in range(6) if (await engine.get(str(number))).state == TaskState.ACTIVE}
    assert active == {*ids(answered), *ids(abandoned)}
    assert len(active) == len(answered) + len(abandoned)


async def test_many_topics(engine: Engine) -> None:
    topics = [f"topic {number}" for number in range(40)]
    await insert(engine, *(task(f"{topic}: {number}", topic) for topic in topics for number in range(3)))
    wanted = [(topic, 1 + number % 3) for number, topic in enumerate(topics)]
    first = await claims(engine, *wanted)
    assert first == [[f"{topic}: {number}" for number in range(count)] for topic, count in wanted]
    await insert(engine, *(task(f"{topic}: earlier", topic, scheduled=NOW - HOUR) for topic in topics[::2]))
    second = await claims(engine, *((topic, 4) for topic in [*topics, "nothing"]))
    for index, (topic, count) in enumerate(wanted):
        left = [f"{topic}: {number}" for number in range(count, 3)]
        assert second[index] == ([f"{topic}: earlier", *left] if index % 2 == 0 else left)
    assert second[-1] == []
    assert await claims(engine, *((topic, 2) for topic in topics)) == [[] for _ in topics]


async def test_each_has_its_own_promises(engine: Engine) -> None:
    await insert(engine, *(task(str(number)) for number in range(3)))
    given = [grants(2), grants(1)]
    results = await asyncio.gather(*(engine.claim("t", each, ANY_SIZE) for each in given))
    assert [[one.nonce for one in tasks] for tasks in results] == [[one.nonce for one in each] for each in given]
    for one in [one for tasks in results for one in tasks]:
        assert await engine.get(one.id) == one


async def test_a_later_claim_gets_what_has_become_due_before_it(engine: Engine) -> None:
    await insert(engine, task("0"), task("1", scheduled=NOW + MS))
    results = await asyncio.gather(
        engine.claim("t", grants(1), ANY_SIZE), engine.claim("t", grants(1, NOW + 2 * MS), ANY_SIZE)
    )
    assert [ids(tasks) for tasks in results] == [["0"], ["1"]]


async def test_no_promise_is_made_before_its_task_was_due(engine: Engine) -> None:
    """Whichever call gets it, of those that share a claim."""
    await insert(engine, *(task(topic, topic, scheduled=NOW + MS) for topic in "tuv"))
    calls = [("t", NOW), ("t", NOW + MS), ("u", NOW), ("v", NOW), ("v", NOW + 3 * MS)]
    results = await asyncio.gather(*(engine.claim(topic, grants(1, now), ANY_SIZE) for topic, now in calls))
    for found in [found for tasks in results for found in tasks]:
        assert found.consumed is not None
        assert found.consumed >= found.scheduled
        assert await engine.get(found.id) == found
    assert {"t", "v"} <= {found.id for tasks in results for found in tasks}


async def test_nothing_is_due(engine: Engine) -> None:
    await insert(engine, task("later", scheduled=NOW + HOUR))
    assert await claims(engine, ("t", 1), ("t", 5), ("t", 1)) == [[], [], []]


async def test_payloads_that_leave_no_room_for_others_do_not_leave_them_without(engine: Engine) -> None:
    await insert(engine, *(task(str(number), payload="x" * 600) for number in range(4)))
    assert await claims(engine, ("t", 1), ("t", 2), ("t", 1), ("t", 1), max_bytes=1000) == [["0"], ["1"], ["2"], ["3"]]


async def test_what_nobody_waits_for_can_be_released_while_the_engine_closes(closed_engine: Engine) -> None:
    engine = closed_engine
    await engine.open()
    await insert(engine, task("1"))
    released: list[asyncio.Task[list[str | None]]] = []

    def release(tasks: Sequence[Task]) -> None:
        released.append(asyncio.create_task(engine.release([hold(found) for found in tasks])))

    call = asyncio.create_task(engine.claim("t", grants(1), ANY_SIZE, release))
    for _ in range(3):  # it is under way by then, and an answer takes more turns of the loop
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    await engine.close()
    assert [await each for each in released] == [["t"]]
