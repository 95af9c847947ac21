"""The floor beneath us: what SQLite and MongoDB do by themselves, one task at a time and in batches."""

import secrets
from contextlib import ExitStack

from bench.contenders import Contender, Run, client
from bench.load import raw_sqlite
from bench.setup import DURABLE, SQLITE, Bench

GRACE = 60.0  # seconds that a client may take beyond its measuring


def name(engine: str, stored: int = 0) -> str:
    """What its rows are called."""
    return f"floor: {engine} by itself" + (f", {stored:,} stored" if stored else "")


def contender(
    bench: Bench, engine: str, batch: int, factor: int = 1, *, stored: int = 0, against: int = 0
) -> Contender:
    """The storage alone; a full task counts as `factor`. SQLite can have tasks stored, told beside a number of them."""

    def sqlite(stack: ExitStack) -> Run:
        path = bench.directory / f"raw-{secrets.token_hex(4)}.db"
        stack.callback(lambda: [file.unlink() for file in bench.directory.glob(path.name + "*")])
        if stored:
            raw_sqlite.fill(str(path), stored)
        return lambda: [drive("sqlite", path)]

    def mongodb(stack: ExitStack) -> Run:
        uri = bench.mongod(engine).uri
        return lambda: [drive("mongodb", uri)]

    def drive(kind: str, where: object) -> float:
        module = f"bench.load.raw_{kind}"
        return factor * float(client(module, where, bench.seconds, batch, timeout=bench.seconds + GRACE))

    start = sqlite if engine == SQLITE else mongodb
    return Contender(name(engine, stored), start, name(engine, against), DURABLE[engine])
