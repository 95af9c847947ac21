"""Full tasks through batches: inserts, a stream and commits, all running at once."""

from contextlib import ExitStack
from typing import Final

from bench import raw
from bench.contenders import Contender, Run, Section, client, compare
from bench.results import Row
from bench.setup import DURABLE, REPLICA_SET, SQLITE, Bench

BATCH: Final = 100
GRACE: Final = 120.0  # seconds that a client may take beyond its measuring
SECTION: Final = Section(f"gRPC in batches of {BATCH}: InsertTasks, Poll or Work, CommitTasks, at once", "full tasks/s")


def drive(target: str, seconds: float, *arguments: object) -> float:
    """Full tasks a second."""
    return float(client("bench.load.batches", target, seconds, *arguments, timeout=seconds + GRACE))


def contender(bench: Bench, engine: str, stream: str) -> Contender:
    """Our server on an engine, with delivery by Poll or Work."""

    def start(stack: ExitStack) -> Run:
        server = bench.queue(engine).serve(stack)
        return lambda: [drive(server.target, bench.seconds, *(["--work"] if stream == "Work" else []))]

    return Contender(f"{engine}, {stream}", start, raw.name(engine), DURABLE[engine])


def measure(bench: Bench) -> list[Row]:
    """Both engines and both streams, and what the storage does by itself."""
    contenders: list[Contender] = []
    for engine in (SQLITE, REPLICA_SET):
        contenders.append(raw.contender(bench, engine, BATCH))
        contenders += [contender(bench, engine, stream) for stream in ("Poll", "Work")]
    return compare([SECTION], contenders, bench.runs)
