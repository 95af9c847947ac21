"""The processes of clients, from outside."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from tests.reliability.history import clock
from tests.reliability.soak.client import FINISH, Client, Place, Slot, main
from tests.reliability.soak.consumer import Consumer
from tests.reliability.soak.log import Log
from tests.reliability.soak.meter import Meter
from tests.reliability.soak.producer import Producer
from tests.server import Server

CONSUMERS: Final = 2
LOOK_SECONDS: Final = 0.1
FINISH_SECONDS: Final = 120


@dataclass
class Member:
    """A process and what it is asked through."""

    kind: type[Client]
    number: int
    process: BaseProcess
    orders: Connection
    name: str


@dataclass
class Crew:
    """A producer and some consumers; one that is killed is replaced by one of another name."""

    server: Server
    directory: Path
    seed: int
    killed: dict[str, float] = field(default_factory=dict)  # by name, when
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._board: MutableSequence[float] = self._context.RawArray("d", (1 + CONSUMERS) * len(Slot))
        self._generation = 0
        self.producer = self._start(Producer, 0)
        self.consumers = [self._start(Consumer, 1 + number) for number in range(CONSUMERS)]

    def _start(self, kind: type[Client], number: int) -> Member:
        self._generation += 1
        name = f"{kind.__name__.lower()}{number}x{self._generation}"
        place = Place(
            name, number, self.server.url, self.server.target, self.directory, self.seed + self._generation, self._board
        )
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=main, args=(kind, place, theirs), name=name, daemon=True)
        process.start()
        theirs.close()
        return Member(kind, number, process, ours, name)

    @property
    def members(self) -> list[Member]:
        return [self.producer, *self.consumers]

    def latest(self, slot: Slot) -> float:
        """The highest of all processes."""
        return max(self._board[slot :: len(Slot)])

    def total(self, slot: Slot) -> float:
        return sum(self._board[slot :: len(Slot)])

    def pace(self, tasks_a_second: float) -> None:
        self.producer.orders.send(tasks_a_second)

    def listen(self) -> Meter:
        """What they have told since the last time."""
        told = Meter()
        for member in self.members:
            with contextlib.suppress(EOFError, OSError):
                while member.orders.poll():
                    told.add(member.orders.recv())
        return told

    def mend(self) -> None:
        """Replace consumers that have ended by themselves, which is noted; RuntimeError if the producer has."""
        for position, member in enumerate(self.consumers):
            if member.process.exitcode is not None:
                self.failed.append(member.name)
                self.kill_one(position)
        if self.producer.process.exitcode is not None:
            raise RuntimeError(f"{self.producer.name} has ended by itself")

    def kill_one(self, position: int) -> None:
        """Kill a consumer, and start another in its place."""
        old = self.consumers[position]
        old.process.kill()
        old.process.join(FINISH_SECONDS)
        self.killed[old.name] = clock()
        old.orders.close()
        self.consumers[position] = self._start(Consumer, old.number)

    async def finish(self, members: list[Member]) -> Meter:
        """Let them finish what they do; what they tell at last."""
        for member in members:
            with contextlib.suppress(OSError):
                member.orders.send(FINISH)
        told = Meter()
        end = asyncio.get_running_loop().time() + FINISH_SECONDS
        while any(member.process.is_alive() for member in members):
            told.add(self.listen())
            if asyncio.get_running_loop().time() > end:
                self.failed += [f"{member.name} did not finish" for member in members if member.process.is_alive()]
                break
            await asyncio.sleep(LOOK_SECONDS)
        told.add(self.listen())
        self.failed += [member.name for member in members if member.process.exitcode]
        return told

    def close(self) -> None:
        """End what is left."""
        for member in self.members:
            if member.process.is_alive():
                member.process.kill()
            member.process.join(FINISH_SECONDS)
            member.orders.close()

    def new_log(self, name: str) -> Log:
        """For a client in this process."""
        return Log(self.directory, name)


async def until_seen(crew: Crew, slot: Slot, since: float, seconds: float) -> float:
    """How many ms after `since` something later was seen; TimeoutError."""
    async with asyncio.timeout(seconds):
        while crew.latest(slot) <= since:  # noqa: ASYNC110 (other processes write it)
            await asyncio.sleep(0.01)
    return clock() - since
