"""How late does a consumer that waits get what has become due, by its schedule or by a promise that was not kept?"""

from contextlib import ExitStack
from typing import Final

from bench.contenders import Contender, Run, Section, client, compare
from bench.results import Row
from bench.setup import DURABLE, REPLICA_SET, SQLITE, Bench

GRACE: Final = 60.0  # seconds that a client may take beyond its measuring
KINDS: Final = {
    "scheduled": "From the scheduled time to an idle consumer",
    "missed": "From a missed deadline to an idle consumer",
}


def measure(bench: Bench) -> list[Row]:
    """Both engines, both reasons."""
    rows: list[Row] = []
    for kind, title in KINDS.items():
        contenders = [contender(bench, engine, kind) for engine in (SQLITE, REPLICA_SET)]
        rows += compare([Section(f"{title}, {name}", "ms") for name in ("p50", "p99")], contenders, bench.runs)
    return rows


def contender(bench: Bench, engine: str, kind: str) -> Contender:
    """Our server on an engine."""

    def start(stack: ExitStack) -> Run:
        server = bench.queue(engine).serve(stack)

        def run() -> list[float]:
            output = client("bench.load.due", server.target, bench.seconds, kind, timeout=bench.seconds + GRACE)
            return [float(value) for value in output.split()]

        return run

    return Contender(engine, start, note=DURABLE[engine])
