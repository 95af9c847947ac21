"""The floor beneath us: what SQLite and MongoDB do by themselves, one task at a time and in batches."""

import secrets
from contextlib import ExitStack

from bench.contenders import Contender, Run, client
from bench.setup import DURABLE, SQLITE, Bench

GRACE = 60.0  # seconds that a client may take beyond its measuring


def name(engine: str) -> str:
    """What its rows are called."""
    return f"floor: {engine} by itself"


def contender(bench: Bench, engine: str, batch: int, factor: int = 1) -> Contender:
    """The storage alone; a full task counts as `factor`."""

    def sqlite(stack: ExitStack) -> Run:
        stem = f"raw-{secrets.token_hex(4)}.db"
        stack.callback(lambda: [file.unlink() for file in bench.directory.glob(stem + "*")])
        return lambda: [drive("sqlite", bench.directory / stem)]

    def mongodb(stack: ExitStack) -> Run:
        uri = bench.mongod(engine).uri
        return lambda: [drive("mongodb", uri)]

    def drive(kind: str, where: object) -> float:
        module = f"bench.load.raw_{kind}"
        return factor * float(client(module, where, bench.seconds, batch, timeout=bench.seconds + GRACE))

    start = sqlite if engine == SQLITE else mongodb
    return Contender(name(engine), start, name(engine), DURABLE[engine])
