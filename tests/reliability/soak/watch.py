"""What the server takes and does, looked at every few seconds and written down at once."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec
import psutil

from ratus.v1 import topic_service_pb2 as topics_pb
from tests.reliability.hands import CHANNEL
from tests.reliability.soak.crew import Crew
from tests.reliability.soak.meter import Meter
from tests.reliability.soak.mixture import TOPICS
from tests.rpc.serving import Client
from tests.server import Server

MIB: Final = 2**20
STATES: Final = ("pending", "active", "completed")
TIMES: Final = ("insert", "claim", "commit", "arrival")
STATS_SECONDS: Final = 2.0


class Sample(msgspec.Struct, omit_defaults=True):
    """What was seen since the last one; times in ms at 50, 99 and 99.9 %. A process is its number."""

    at: float  # seconds since the begin
    process: int
    rates: dict[str, float]  # a second, of what clients counted
    times: dict[str, list[float]]
    tasks: dict[str, int]  # by state; none if the server did not answer
    resident: float = 0  # MiB
    anonymous: float = 0  # MiB, of them what is no file
    descriptors: int = 0
    threads: int = 0
    processor: float = 0  # of one core
    database: float = 0  # MiB
    log: float = 0  # MiB


class Mark(msgspec.Struct):
    """A fault, and how many seconds later inserts and hand-outs were seen again."""

    at: float
    fault: str
    again: float


class Watch:
    """Samples and marks in memory, and in a file of their own from the moment when they are made."""

    def __init__(self, server: Server, crew: Crew, sizes: Callable[[], tuple[int, int]], file: Path) -> None:
        self.samples: list[Sample] = []
        self.marks: list[Mark] = []
        self._server = server
        self._crew = crew
        self._sizes = sizes
        self._client = Client(server.target, CHANNEL)
        self.failed: list[str] = []  # looks
        self._begin = self._last = time.monotonic()
        self._used = 0.0
        self._file = file.open("wb", buffering=0)

    @property
    def now(self) -> float:
        return time.monotonic() - self._begin

    async def run(self, interval: float) -> None:
        """Look until cancelled."""
        self._begin = self._last = time.monotonic()
        while True:
            await asyncio.sleep(max(0.1, self._last + interval - time.monotonic()))
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 (a long run is not given up for a look; it is told at the end)
                self.failed.append(f"{type(error).__name__}: {error}")

    async def look(self, told: Meter | None = None) -> None:
        meter = self._crew.listen()
        if told is not None:
            meter.add(told)
        now, before = time.monotonic(), self._last
        self._last = now
        sample = Sample(
            round(now - self._begin, 2),
            self._server.process.pid,
            rates={what: round(count / (now - before), 1) for what, count in meter.counts.items()},
            times={what: found for what in TIMES if (found := meter.percentiles(what))},
            tasks=await self._tasks(),
        )
        self._measure(sample, now - before)
        self.samples.append(sample)
        self._write({"sample": sample})

    def mark(self, at: float, fault: str, again: float) -> None:
        self.marks.append(Mark(round(at, 2), fault, round(again, 2)))
        self._write({"mark": self.marks[-1]})

    async def tasks(self) -> int:
        """How many are not done, or -1 if the server does not answer."""
        tasks = await self._tasks()
        return tasks["pending"] + tasks["active"] if tasks else -1

    async def _tasks(self) -> dict[str, int]:
        found = dict.fromkeys(STATES, 0)
        try:
            for topic in TOPICS:
                request = topics_pb.GetTopicStatsRequest(topic=topic)
                stats = await self._client.topics.GetTopicStats(request, timeout=STATS_SECONDS)
                for state in STATES:
                    found[state] += getattr(stats, state)
        except grpc.aio.AioRpcError as error:
            return found if error.code() is grpc.StatusCode.NOT_FOUND else {}
        return found

    def _measure(self, sample: Sample, seconds: float) -> None:
        try:
            processes = self._server.processes()
            memory = [process.memory_info() for process in processes]
            times = [process.cpu_times() for process in processes]
            sample.resident = round(sum(one.rss for one in memory) / MIB, 2)
            sample.anonymous = round(sum(one.rss - one.shared for one in memory) / MIB, 2)
            sample.descriptors = sum(process.num_fds() for process in processes)
            sample.threads = sum(process.num_threads() for process in processes)
            used = sum(one.user + one.system for one in times)
        except psutil.Error:  # it was killed just now
            return
        if self.samples and self.samples[-1].process == sample.process:
            sample.processor = round((used - self._used) / seconds, 3)
        self._used = used
        database, log = self._sizes()
        sample.database, sample.log = round(database / MIB, 2), round(log / MIB, 2)

    def descriptors(self) -> int:
        """What the server has open now, without its connections to a database, whose number has a bound of its own."""
        process = psutil.Process(self._server.process.pid)
        ours = (self._server.port, self._server.grpc_port)
        others = [one for one in process.net_connections("tcp") if one.laddr.port not in ours]
        return int(process.num_fds() - len(others))

    async def close(self) -> None:
        await self._client.channel.close()
        self._file.close()

    def _write(self, what: dict[str, Any]) -> None:
        self._file.write(msgspec.json.encode(what) + b"\n")


class _Line(msgspec.Struct):
    sample: Sample | None = None
    mark: Mark | None = None


def load(file: Path) -> tuple[list[Sample], list[Mark]]:
    """What a run has written so far."""
    lines = [msgspec.json.decode(line, type=_Line) for line in file.read_bytes().splitlines(keepends=True)]
    return [one.sample for one in lines if one.sample], [one.mark for one in lines if one.mark]
