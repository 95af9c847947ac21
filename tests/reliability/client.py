"""Clients in a process of their own: `python -m tests.reliability.client KIND NAME URL TARGET[,TARGET] JOURNAL SEED`.

They work until SIGTERM and then end in order. KIND is `load`, clients of all kinds as in `tests.reliability.load`,
`sdk`, a worker of the SDK that makes tasks too, or `patient`, one whose promises hold for 10 minutes.
"""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import ratus
from ratus.errors import ClientClosed, RatusError
from ratus.times import to_ms
from tests.reliability.history import Claim, Commit, Delivery, History, Insert, Outcome, Release, Span
from tests.reliability.journal import Journal
from tests.reliability.load import PRODUCE_SECONDS, TOPIC, Load

HELD_MS: Final = 2000  # so long promises hold: a process that stands still is to miss them
WORK_SECONDS: Final = 0.1  # most that a handler takes
CONCURRENCY: Final = 5


async def load(name: str, url: str, targets: Sequence[str], history: History, seed: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Load([(url, targets[0])], seed, history, f"{name}-", HELD_MS).running():
        await stopped.wait()


async def sdk(name: str, targets: Sequence[str], history: History, seed: int, timeout: str) -> None:
    """A handler that notes what it is given and what it does with it; the SDK repeats calls by itself.

    So a refusal may be the answer to a repeat: of the outcome of such a call nothing is known.
    """
    dice, ids, claim = random.Random(seed), itertools.count(), Claim(name, (TOPIC,), Span())
    history.claims.append(claim)
    async with ratus.connect(*targets, consumer=name) as queue:

        @queue.worker(TOPIC, concurrency=CONCURRENCY, timeout=timeout)
        async def handle(task: ratus.ActiveTask[Any]) -> None:
            assert task.consumed is not None
            assert task.deadline is not None
            times = {"scheduled": to_ms(task.scheduled), "consumed": to_ms(task.consumed)}
            held = Delivery(
                task.id, task.topic, task.nonce, task.consumer, deadline=to_ms(task.deadline), claim=claim, **times
            )
            history.deliveries.append(held)
            await asyncio.sleep(dice.random() * WORK_SECONDS)  # the work
            if dice.random() < 0.1:
                release = Release(held.id, held.nonce, Span())
                history.releases.append(release)
                await _settled(release.span, task.release())
            else:
                commit = Commit(held.id, held.nonce, f'"commit-{name}-{next(ids)}"', Span())
                history.commits.append(commit)
                task.payload = json.loads(commit.payload)
                await _settled(commit.span, task.commit())

        async def produce() -> None:
            while True:
                id = f"task-{name}-{next(ids)}"
                insert = Insert(id, TOPIC, f'"{id}"', None, Span())
                history.inserts.append(insert)
                await _settled(insert.span, queue.insert(TOPIC, id, id=id))
                await asyncio.sleep(dice.random() * 2 * PRODUCE_SECONDS)  # until there is more to do

        producing = asyncio.create_task(produce())
        try:
            await queue.run(grace="10s")
        finally:
            producing.cancel()
            await asyncio.wait([producing])


async def _settled(span: Span, call: Any) -> None:
    try:
        await call
    except ClientClosed:  # this process ends
        span.finish(Outcome.UNKNOWN, "TRANSPORT")
    except RatusError as error:
        span.finish(Outcome.UNKNOWN, error.reason)
    else:
        span.finish(Outcome.OK)


def main(kind: str, name: str, url: str, targets: str, journal: str, seed: str) -> None:
    history = Journal(Path(journal))
    servers = targets.split(",")
    with contextlib.closing(history):
        if kind == "load":
            asyncio.run(load(name, url, servers, history, int(seed)))
        else:
            asyncio.run(sdk(name, servers, history, int(seed), "10m" if kind == "patient" else f"{HELD_MS}ms"))


if __name__ == "__main__":
    main(*sys.argv[1:])
