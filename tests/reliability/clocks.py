"""The server's clock jumps under load, forwards and back; its timers go on as timers do."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from ratus.v1 import promise_service_pb2 as promises_pb
from tests.reliability import launcher
from tests.reliability.checker import check
from tests.reliability.dial import Dial
from tests.reliability.hands import CHANNEL, Unary, delivery
from tests.reliability.history import Claim, Commit, History, Insert, Jump, Outcome, Span, clock
from tests.reliability.load import ANSWER_SECONDS, LONG, Load, served, until
from tests.reliability.report import Report
from tests.reliability.storage import read_sqlite
from tests.rpc.serving import Client
from tests.server import Server

HELD_SECONDS: Final = 1.0  # mean time between the service's going on and the next jump
ASLEEP_SECONDS: Final = 0.1  # after which a topic waits for nothing but the time of its next task
MINUTE: Final = 60_000  # ms
JUMPS: Final = (2 * MINUTE, 60 * MINUTE, 24 * 60 * MINUTE)  # either way; less than tasks are kept
WAITING: Final = frozenset({"c0-Unary", "c0-poll", "c0-giving", "c0-work"})  # consumers that wait for tasks
QUIET: Final = "quiet"  # a topic that nothing but the clock wakes


async def clock_jumps(directory: Path, rounds: int, seed: int) -> Report:
    """So many jumps away from the right time, each followed by one back to it."""
    dice, history, report = random.Random(seed), History(), Report()
    path, dial = directory / "q.db", Dial(directory / "clock")
    options = ("--sqlite-path", str(path), "--chore-interval", "1s", "--log-level", "warning")
    env = {launcher.CLOCK: str(dial.path)}
    server = Server(directory / "server.log", *options, env=env, program=launcher.PROGRAM)
    await asyncio.to_thread(server.start)
    try:
        async with Load([(server.url, server.target)], seed, history).running(), _quiet(server, history) as hands:
            await served(history, clock(), ANSWER_SECONDS)
            clocks, before = _Clock(dial, history, hands), 0
            for number in range(rounds):
                ahead = dice.choice(JUMPS) * (1 if number % 2 else -1)
                for name, to in (("forwards" if ahead > 0 else "back", ahead), ("right again", 0)):
                    report.fault(name, **await clocks.jump(before, to))
                    before = to
                    await asyncio.sleep(dice.random() * 2 * HELD_SECONDS)
    finally:
        await asyncio.to_thread(server.stop)
    report.close(history, check(history, await read_sqlite(path)))
    return report


class _Clock:
    """The server's clock."""

    def __init__(self, dial: Dial, history: History, hands: Unary) -> None:
        self._dial = dial
        self._history = history
        self._hands = hands
        self._ids = itertools.count()

    async def jump(self, before: int, to: int) -> dict[str, float]:
        """Set it from so many ms ahead to so many, and tell how many ms later what has gone on.

        A jump forwards passes the time of a task that a stream waits for.
        """
        expected = f"quiet-{next(self._ids)}" if to > before else ""
        if expected:
            passed = int(clock()) + (before + to) // 2
            await self._hands.insert([Insert(expected, QUIET, '"new"', passed, Span())])
            await asyncio.sleep(ASLEEP_SECONDS)
        begin = clock()
        self._dial.set(to * 1_000_000)
        self._history.jumps.append(Jump(begin, clock(), to))
        return await _flows(self._history, clock(), expected)


async def _flows(history: History, since: float, expected: str) -> dict[str, float]:
    """How many ms after `since` inserts were acknowledged, and consumers handed tasks, that had begun later."""
    inserts, deliveries = len(history.inserts), len(history.deliveries)
    inserted, handed = 0.0, dict[str, float]()

    def flows() -> bool:
        nonlocal inserted
        fresh = {one.id: one.span for one in history.inserts[inserts:] if one.span.begin > since}
        inserted = min((span.end for span in fresh.values() if span.outcome is Outcome.OK), default=0.0)
        for one in history.deliveries[deliveries:]:
            if one.id in fresh or one.id == expected:
                handed.setdefault(one.consumer, one.received)
        return bool(inserted) and handed.keys() >= (WAITING | {QUIET} if expected else WAITING)

    await until(flows, ANSWER_SECONDS, "tasks do not flow")
    times = {"insert": inserted, "hand-out to every waiting consumer": max(handed[name] for name in WAITING)}
    if expected:
        times["hand-out of what the jump made due"] = handed[QUIET]
    return {what: moment - since for what, moment in times.items()}


@contextlib.asynccontextmanager
async def _quiet(server: Server, history: History) -> AsyncIterator[Unary]:
    """Listen to the quiet topic, and commit what comes; what is yielded can insert."""
    hands, claim = Unary(server.target, history), Claim(QUIET, (QUIET,), Span())
    history.claims.append(claim)
    async with Client(server.target, CHANNEL) as client:
        request = promises_pb.PollRequest(topics=[QUIET], consumer=QUIET, max_in_flight=1000)
        request.timeout.CopyFrom(Duration(seconds=LONG // 1000))
        call = client.promises.Poll(request)

        async def listen() -> None:
            while (message := await call.read()) is not grpc.aio.EOF:
                for held in (delivery(task, claim) for task in message.tasks):
                    history.deliveries.append(held)
                    await hands.commit(Commit(held.id, held.nonce, '"done"', Span()))

        listening = asyncio.create_task(listen())
        try:
            yield hands
        finally:
            call.cancel()
            await asyncio.wait([listening])
            claim.span.end = clock()
            await hands.close()
