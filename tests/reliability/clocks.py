"""The server's clock jumps under load, forwards and back; its timers go on as timers do."""

import asyncio
import random
from pathlib import Path
from typing import Final

from tests.reliability import launcher
from tests.reliability.checker import check
from tests.reliability.dial import Dial
from tests.reliability.history import History, Jump, Outcome, clock
from tests.reliability.load import Load, served, until
from tests.reliability.report import Report
from tests.reliability.storage import read_sqlite
from tests.server import Server

ANSWER_SECONDS: Final = 60
HELD_SECONDS: Final = 1.0  # mean time between two jumps that follow the service's going on
MINUTE: Final = 60_000  # ms
JUMPS: Final = (2 * MINUTE, -2 * MINUTE, 60 * MINUTE, -60 * MINUTE, 24 * 60 * MINUTE, -24 * 60 * MINUTE)
CONSUMERS: Final = frozenset({"c0-Rest", "c0-Unary", "c0-poll", "c0-giving", "c0-work"})


async def clock_jumps(directory: Path, rounds: int, seed: int) -> Report:
    """So many jumps, each of them away from the right time and then back to it."""
    dice, history, report = random.Random(seed), History(), Report()
    path, dial = directory / "q.db", Dial(directory / "clock")
    options = ("--sqlite-path", str(path), "--chore-interval", "1s", "--log-level", "warning")
    env = {launcher.CLOCK: str(dial.path)}
    server = Server(directory / "server.log", *options, env=env, program=launcher.PROGRAM)

    async def jump(ahead: int, name: str) -> None:
        begin = clock()
        dial.set(ahead * 1_000_000)
        history.jumps.append(Jump(begin, clock(), ahead))
        report.fault(name, **await _flows(history, clock()))

    await asyncio.to_thread(server.start)
    try:
        async with Load([(server.url, server.target)], seed, history).running():
            await served(history, clock(), ANSWER_SECONDS)
            for _ in range(rounds):
                ahead = dice.choice(JUMPS)
                await jump(ahead, "forwards" if ahead > 0 else "back")
                await asyncio.sleep(dice.random() * 2 * HELD_SECONDS)
                await jump(0, "right again")
                await asyncio.sleep(dice.random() * 2 * HELD_SECONDS)
    finally:
        await asyncio.to_thread(server.stop)
    report.close(history, check(history, await read_sqlite(path)))
    return report


async def _flows(history: History, since: float) -> dict[str, float]:
    """How many ms after `since` an insert was acknowledged, and every consumer was handed a task, that began later."""
    inserts, deliveries = len(history.inserts), len(history.deliveries)
    inserted, handed = 0.0, dict[str, float]()

    def flows() -> bool:
        nonlocal inserted
        fresh = {one.id: one.span for one in history.inserts[inserts:] if one.span.begin > since}
        inserted = min((span.end for span in fresh.values() if span.outcome is Outcome.OK), default=0.0)
        for one in history.deliveries[deliveries:]:
            if one.id in fresh:
                handed.setdefault(one.consumer, one.received)
        return bool(inserted) and handed.keys() >= CONSUMERS

    await until(flows, ANSWER_SECONDS, "tasks do not flow")
    return {
        "insert": inserted - since,
        "first hand-out": min(handed.values()) - since,
        "all consumers": max(handed[c] for c in CONSUMERS) - since,
    }
