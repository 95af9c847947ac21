"""Judges a copy of the storage by the history of the load it was made under, and lets a server go on from it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from ratus.model import TaskState
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import topic_service_pb2 as topics_pb
from tests.reliability.checker import Finding, check
from tests.reliability.hands import Unary
from tests.reliability.history import Claim, Commit, Extension, History, Insert, Outcome, Release, Span, Stored
from tests.reliability.load import LONG, TOPIC
from tests.rpc.serving import Client
from tests.server import Server, run

CONSUMERS: Final = 8
FINISH_SECONDS: Final = 120
C = TypeVar("C", Insert, Claim, Commit, Extension, Release)


def as_copied(history: History, begin: float, end: float) -> History:
    """What explains a copy that was made between: what was known before, and calls until its end, of unknown outcome.

    What was handed out meanwhile may be in it or not, so that only the claims tell of it. What began later explains
    nothing.
    """
    later = history.until(end)

    def cut(calls: list[C]) -> list[C]:
        return [replace(call, span=call.span.until(begin)) for call in calls]

    return History(
        inserts=cut(later.inserts),
        claims=cut(later.claims),
        deliveries=history.until(begin).deliveries,
        commits=cut(later.commits),
        extensions=cut(later.extensions),
        releases=cut(later.releases),
    )


def judge_copy(
    history: History, stored: Mapping[str, Stored], begin: float, end: float, *, one_moment: bool
) -> list[Finding]:
    """All that is wrong with a copy that was made between; `one_moment` if it claims to be what was there at one."""
    findings = check(as_copied(history, begin, end), stored)
    promised = {one.nonce: one for one in history.deliveries}
    for task in stored.values():
        if (task.consumed or 0) > end:
            findings.append(Finding("later", task.id, f"consumed {task.consumed}, the copy was complete {end:.0f}"))
        promise = promised.get(task.nonce)
        if promise and (promise.id, promise.consumer) != (task.id, task.consumer):
            findings.append(Finding("crossed", task.id, f"{task.consumer} holds it with a nonce of {promise.consumer}"))
    if one_moment:
        findings += _of_several_moments(history, stored)
    return findings


def _of_several_moments(history: History, stored: Mapping[str, Stored]) -> list[Finding]:
    """Something is in it that began after something else was acknowledged, which is not in it."""
    there = [(one.span.begin, one.id) for one in history.inserts if one.id in stored]
    there = [max(same) for same in _first_begins(there).values()]
    missing = [
        (one.span.end, one.id) for one in history.inserts if one.id not in stored and one.span.outcome is Outcome.OK
    ]
    for commit in history.commits:
        task = stored.get(commit.id)
        if task is not None and task.payload == commit.payload:
            there.append((commit.span.begin, commit.id))
        elif task is not None and task.payload == f'"{commit.id}"' and commit.span.outcome is Outcome.OK:
            missing.append((commit.span.end, commit.id))  # it has the payload of its insert still
    if not there or not missing:
        return []
    (last, present), (first, absent) = max(there), min(missing)
    if last <= first:
        return []
    return [Finding("moments", present, f"is there as of {last:.0f}, {absent} is not, acknowledged {first:.0f}")]


def _first_begins(there: list[tuple[float, str]]) -> dict[str, list[tuple[float, str]]]:
    """A task that was inserted by several attempts may be there since the first."""
    found: dict[str, list[tuple[float, str]]] = {}
    for begin, id in sorted(there):
        found.setdefault(id, [(begin, id)])
    return found


async def go_on(
    server: Server, stored: Mapping[str, Stored], read: Callable[[], Awaitable[dict[str, Stored]]]
) -> tuple[History, list[Finding]]:
    """Let a server on the copy finish its tasks; what was done, and all that was wrong with it.

    Those who held promises are not there any more, so that an operator frees what they held.
    """
    left = {id: task for id, task in stored.items() if task.topic == TOPIC and task.state != TaskState.COMPLETED}
    history = History(
        inserts=[Insert(task.id, task.topic, task.payload, None, Span(0, 0, Outcome.OK)) for task in left.values()]
    )
    await asyncio.to_thread(server.start)
    try:
        doctor = await asyncio.to_thread(run, "doctor", "--thorough", "--target", server.target, timeout=FINISH_SECONDS)
        async with Client(server.target) as client:
            await client.promises.DeletePromises(promises_pb.DeletePromisesRequest(topic=TOPIC), timeout=FINISH_SECONDS)
            async with asyncio.timeout(FINISH_SECONDS):
                await _finish(client, server.target, history)
    finally:
        await asyncio.to_thread(server.stop)
    final = await read()
    findings = check(history, {id: task for id, task in final.items() if id in left})
    if doctor.returncode:
        findings.append(Finding("doctor", "", doctor.stdout + doctor.stderr))
    if final.keys() != stored.keys():
        findings.append(Finding("restored", "", f"{len(stored)} tasks became {len(final)}"))
    for id, task in stored.items():
        now = final.get(id)
        if id not in left and now != task:
            findings.append(Finding("restored", id, f"was {task}, became {now}"))
        elif id in left and now is not None and now.state != TaskState.COMPLETED:
            findings.append(Finding("not done", id, f"is in state {now.state}"))
    return history, findings


async def _finish(client: Client, target: str, history: History) -> None:
    """Until no task of the topic is left."""
    done = asyncio.Event()
    hands = Unary(target, history)
    numbers = iter(range(len(history.inserts)))

    async def consume(consumer: str) -> None:
        while not done.is_set():
            for held in await hands.claim(TOPIC, consumer, LONG):
                await hands.commit(Commit(held.id, held.nonce, f'"after-{next(numbers)}"', Span()))

    async def watch() -> None:
        while True:
            request = topics_pb.GetTopicStatsRequest(topic=TOPIC)
            stats = await client.topics.GetTopicStats(request, timeout=FINISH_SECONDS)
            if not stats.pending + stats.active:
                done.set()
                return
            await asyncio.sleep(0.05)

    try:
        await asyncio.gather(watch(), *(consume(f"after-{number}") for number in range(CONSUMERS)))
    finally:
        await hands.close()
