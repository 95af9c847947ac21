"""A soak from its begin to its end: measure the capacity, work at a share of it, make faults, judge."""

import asyncio
import contextlib
import json
import random
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from ratus.config import MongoDBSettings
from tests.mongod import Mongod, replica_set
from tests.reliability.checker import Finding
from tests.reliability.history import Stored, clock
from tests.reliability.kills import new_server
from tests.reliability.report import Report
from tests.reliability.soak.client import Slot
from tests.reliability.soak.crew import Crew, until_seen
from tests.reliability.soak.faults import Fault, Scene, plan, start
from tests.reliability.soak.growth import growth
from tests.reliability.soak.judge import judge
from tests.reliability.soak.picture import draw
from tests.reliability.soak.watch import Watch
from tests.reliability.storage import read_mongodb, read_sqlite
from tests.server import Server

SHARE: Final = 0.7  # of the capacity
READY_SECONDS: Final = 60
AGAIN_SECONDS: Final = 120
DONE_SECONDS: Final = 180
DESCRIPTORS: Final = 5  # more than at the begin are no leak
RESULTS: Final = Path("build/soak")


@dataclass(frozen=True)
class Plan:
    """How long, on what, and where to."""

    output: Path
    seconds: float = 1800
    every: float = 120  # seconds between faults
    engine: str = "sqlite"
    members: int = 1  # of the replica set
    seed: int = 0
    capacity_seconds: float = 25
    interval: float = 5  # seconds between samples
    retention: int = 60  # seconds


@dataclass
class Storage:
    """What the server works on."""

    args: list[str]
    read: Callable[[], Awaitable[dict[str, Stored]]]
    sizes: Callable[[], tuple[int, int]]  # bytes of the database, and of its log
    members: list[Mongod] = field(default_factory=list)


async def soak(directory: Path, chosen: Plan) -> Report:
    """Run it; what was seen is kept whatever ends it."""
    shutil.rmtree(chosen.output, ignore_errors=True)
    chosen.output.mkdir(parents=True)
    (directory / "log").mkdir()
    with _storage(directory, chosen) as storage:
        server = new_server(directory, *storage.args)
        await start(server)
        try:
            return await Soak(chosen, directory, storage, server).run()
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.process.kill()


async def soak_part(engine: str, members: int, directory: Path, rounds: int, seed: int) -> Report:
    """A part of the long form: so many faults, and the time that they take."""
    chosen = Plan(RESULTS / engine, rounds * Plan.every, engine=engine, members=members, seed=seed)
    return await soak(directory, chosen)


@contextlib.contextmanager
def _storage(directory: Path, chosen: Plan) -> Iterator[Storage]:
    retention = f"{chosen.retention}s"
    if chosen.engine == "sqlite":
        path = directory / "q.db"
        yield Storage(
            ["--sqlite-path", str(path), "--sqlite-retention-period", retention],
            partial(read_sqlite, path),
            lambda: (_size(path), _size(path.with_name("q.db-wal"))),
        )
        return
    with replica_set(chosen.members, within=directory) as members:
        hosts = ",".join(member.address for member in members)
        uri = f"mongodb://{hosts}/?replicaSet={members[0].replica_set}"
        yield Storage(
            ["--engine", "mongodb", "--mongodb-uri", uri, "--mongodb-retention-period", retention],
            partial(read_mongodb, MongoDBSettings(uri=uri)),
            lambda: (
                sum(map(_size, directory.glob("mongod-*/data/*.wt"))),
                sum(map(_size, directory.glob("mongod-*/data/journal/*"))),
            ),
            members,
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Soak:
    """One run."""

    def __init__(self, chosen: Plan, directory: Path, storage: Storage, server: Server) -> None:
        self._plan = chosen
        self._log = directory / "log"
        self._storage = storage
        self._server = server
        self._report = Report()
        self._capacity = 0.0
        self._loaded: int | None = None  # samples under load; unless it came to that, all

    async def run(self) -> Report:
        crew = Crew(self._server, self._log, self._plan.seed)
        watch = Watch(self._server, crew, self._storage.sizes, self._plan.output / "samples.ndjson")
        self._idle = watch.descriptors()
        try:
            await self._work(crew, watch)
        except Exception as error:  # noqa: BLE001 (whatever it was, what was done until then is judged)
            self._report.found([Finding("broken off", "", f"{type(error).__name__}: {error}")])
        finally:
            crew.close()
            await watch.close()
        self._report.found([Finding("client failed", "", name) for name in crew.failed])
        self._report.found([Finding("look failed", "", text) for text in watch.failed])
        self._keep(watch)  # before the judgement, which takes its time
        try:
            await asyncio.to_thread(self._server.stop)
        except subprocess.TimeoutExpired as error:
            self._report.found([Finding("not stopped", "", str(error))])
        await self._judge(crew)
        self._report.notes += [
            f"capacity {self._capacity:.0f} tasks a second; paced at {SHARE:.0%} of it",
            *growth(watch.samples[: self._loaded]),
        ]
        (self._plan.output / "report.txt").write_text(f"{self._report}\n")
        return self._report

    async def _work(self, crew: Crew, watch: Watch) -> None:
        await until_seen(crew, Slot.CONSUMED, 0, READY_SECONDS)
        self._capacity = await self._measured(crew)
        print(f"capacity {self._capacity:.0f} tasks a second", flush=True)
        crew.pace(SHARE * self._capacity)
        watching = asyncio.create_task(watch.run(self._plan.interval))
        try:
            await self._faults(crew, watch)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        self._loaded = len(watch.samples)
        await watch.look(await crew.finish([crew.producer]))
        await self._until_done(watch)
        await watch.look(await crew.finish(crew.consumers))
        await self._until_descriptors_are_back(watch)

    async def _measured(self, crew: Crew) -> float:
        """Tasks a second, as fast as they can be done, once that runs."""
        await self._listen(crew, self._plan.capacity_seconds / 4)
        loop = asyncio.get_running_loop()
        begin, before = loop.time(), crew.total(Slot.COMMITTED)
        await self._listen(crew, self._plan.capacity_seconds)
        return (crew.total(Slot.COMMITTED) - before) / (loop.time() - begin)

    async def _listen(self, crew: Crew, seconds: float) -> None:
        """Let them work; what they tell is left out."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, 1))
            crew.listen()

    async def _faults(self, crew: Crew, watch: Watch) -> None:
        scene = Scene(self._server, crew, self._storage.members, random.Random(self._plan.seed))
        faults = plan(int(self._plan.seconds / self._plan.every), bool(self._storage.members))
        loop = asyncio.get_running_loop()
        begin = loop.time()

        async def until(seconds: float) -> None:
            while (left := begin + seconds - loop.time()) > 0:
                await asyncio.sleep(min(left, self._plan.interval))
                crew.mend()

        for number, (name, fault) in enumerate(faults):
            await until((number + 0.5) * self._plan.every)
            try:
                await self._make(name, fault, scene, watch)
            except Exception as error:  # noqa: BLE001 (a long run goes on after whatever one fault has led to)
                self._report.found([Finding("fault", "", f"{name}: {type(error).__name__}: {error}")])
                if self._server.process.poll() is not None:
                    await start(self._server)
        await until(self._plan.seconds)

    async def _make(self, name: str, fault: Fault, scene: Scene, watch: Watch) -> None:
        at, moment = watch.now, clock()
        await fault(scene)
        again = {
            what: await until_seen(scene.crew, slot, moment, AGAIN_SECONDS)
            for what, slot in (("insert", Slot.BEGUN), ("hand-out", Slot.CONSUMED))
        }
        self._report.fault(name, **again)
        watch.mark(at, name, max(again.values()) / 1000)
        print(f"{at:.0f} s: {name}, again after {max(again.values()) / 1000:.1f} s", flush=True)

    async def _until_done(self, watch: Watch) -> None:
        """Until every task is completed."""
        async with asyncio.timeout(DONE_SECONDS):
            while await watch.tasks():  # noqa: ASYNC110 (nobody would tell)
                await asyncio.sleep(0.5)

    async def _until_descriptors_are_back(self, watch: Watch) -> None:
        """Nobody is there any more, so that what the server holds beyond its begin would never be closed."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while watch.descriptors() > self._idle + DESCRIPTORS:  # noqa: ASYNC110 (nobody would tell)
                    await asyncio.sleep(0.5)
        except TimeoutError:
            text = f"{watch.descriptors()} open when all clients had gone, {self._idle} before they came"
            self._report.found([Finding("descriptors", "", text)])

    def _keep(self, watch: Watch) -> None:
        title = f"{self._plan.engine}, {SHARE * self._capacity:.0f} tasks a second ({SHARE:.0%} of its capacity)"
        draw(self._plan.output / "soak.svg", title, watch.samples, watch.marks)
        about = {
            "engine": self._plan.engine,
            "seconds": self._plan.seconds,
            "seed": self._plan.seed,
            "capacity": round(self._capacity),
            "share": SHARE,
        }
        (self._plan.output / "about.json").write_text(json.dumps(about, indent=2) + "\n")

    async def _judge(self, crew: Crew) -> None:
        stored = await self._storage.read()
        ended = clock()  # until now something may have been deleted because it was old
        report = judge(self._log, stored, self._plan.retention * 1000, ended, crew.killed)
        report.findings[:0] = self._report.findings
        report.faults, report.times = self._report.faults, self._report.times
        self._report = report
