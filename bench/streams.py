"""What do streams cost, do they share fairly, and does the memory of the server stay flat?"""

from contextlib import ExitStack
from typing import Final

from bench.contenders import Contender, Run, Section, client, compare
from bench.load.streams import IDLE, SHARING, TASKS
from bench.results import Row
from bench.setup import DURABLE, REPLICA_SET, SQLITE, Bench

GRACE: Final = 240.0  # seconds that a client may take beyond its measuring
SECTIONS: Final = [
    Section(f"Streams: {SHARING} that share {TASKS:,} tasks", "full tasks/s"),
    Section("Streams: the least that one of them got", "of the fair share"),
    Section("Streams: the most that one of them got", "of the fair share"),
    Section(f"Streams: memory that {IDLE:,} idle ones take", "MiB"),
    Section(f"Streams: processor that {IDLE:,} idle ones take", "% of a core"),
    Section(f"Streams: memory that stays after {IDLE:,} were opened and cancelled", "MiB"),
]


def measure(bench: Bench) -> list[Row]:
    """Both engines."""

    def contender(engine: str) -> Contender:
        def start(stack: ExitStack) -> Run:
            server = bench.queue(engine).serve(stack)

            def run() -> list[float]:
                arguments = (server.target, server.process.pid, bench.seconds)
                output = client("bench.load.streams", *arguments, timeout=bench.seconds + GRACE)
                return [float(value) for value in output.split()]

            return run

        return Contender(engine, start, note=DURABLE[engine])

    return compare(SECTIONS, [contender(engine) for engine in (SQLITE, REPLICA_SET)], bench.runs)
