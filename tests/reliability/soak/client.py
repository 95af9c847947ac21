"""A process full of clients: takes orders from whoever started it, and tells it what happened."""

import asyncio
import contextlib
import random
from collections.abc import Coroutine, MutableSequence
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.reliability.soak.log import Log
from tests.reliability.soak.meter import Meter

REPORT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.1
FINISH: Final = "finish"


class Slot(IntEnum):
    """What every process writes for all others to see at once."""

    INSERTED = 0
    COMMITTED = 1
    BEGUN = 2  # the begin, in ms, of the latest insert that was acknowledged
    CONSUMED = 3  # when the latest task that was handed out was consumed


@dataclass(frozen=True)
class Place:
    """Where a process of clients works."""

    name: str
    number: int
    url: str
    target: str
    directory: Path
    seed: int
    board: MutableSequence[float]  # of all processes


class Client:
    """What producers and consumers have in common."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.dice = random.Random(place.seed)
        self.log = Log(place.directory, place.name)
        self.meter = Meter()
        self.over = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Until it is over, and what was begun is finished."""
        raise NotImplementedError

    def order(self, order: Any) -> None:
        """Do as told."""
        if order == FINISH:
            self.over.set()

    def tell(self, slot: Slot, value: float) -> None:
        self.place.board[self.place.number * len(Slot) + slot] = value

    def count(self, slot: Slot, more: int) -> None:
        self.place.board[self.place.number * len(Slot) + slot] += more

    def all_of(self, slot: Slot) -> float:
        return sum(self.place.board[slot :: len(Slot)])

    def later(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    @property
    def under_way(self) -> int:
        return len(self._jobs)

    async def finish(self) -> None:
        """Wait for what runs still; an error of it is one of the process."""
        await asyncio.gather(*self._jobs)

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


async def _obey(client: Client, orders: Connection) -> None:
    loop = asyncio.get_running_loop()
    told = loop.time()
    while True:
        try:
            while orders.poll():
                client.order(orders.recv())
            if loop.time() - told >= REPORT_SECONDS:
                told = loop.time()
                meter, client.meter = client.meter, Meter()
                orders.send(meter)
        except (EOFError, OSError):  # whoever started it is gone
            client.over.set()
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _main(kind: type[Client], place: Place, orders: Connection) -> None:
    client = kind(place)
    obeying = asyncio.create_task(_obey(client, orders))
    try:
        await client.work()
        await client.finish()
    finally:
        obeying.cancel()
        await asyncio.wait([obeying])
        client.log.close()
    with contextlib.suppress(OSError):
        orders.send(client.meter)


def main(kind: type[Client], place: Place, orders: Connection) -> None:
    """The process."""
    with contextlib.suppress(KeyboardInterrupt):  # which whoever started it gets too
        uvloop.run(_main(kind, place, orders))
