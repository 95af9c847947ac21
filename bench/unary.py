"""gRPC, a call for every step: how many a second, against empty calls; and how long one takes that is alone."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from bench import raw
from bench.contenders import Contender, Run, Section, client, compare
from bench.results import Row
from bench.setup import DURABLE, REPLICA_SET, SQLITE, STANDALONE, Bench, bare

CALLERS: Final = 32
STEPS: Final = 3  # of a full task
ROUNDS: Final = 300  # of requests alone
GRACE: Final = 60.0  # seconds that a client may take beyond its measuring
CYCLE: Final = Section(f"gRPC: InsertTask, ClaimTasks of one and CommitTask, {CALLERS} callers", "calls/s")
ALONE_STEPS: Final = ("insert", "claim", "commit")
ONE: Final = [Section(f"One {step} alone, p50", "ms") for step in ALONE_STEPS]


def cycle(target: str, seconds: float, kind: str = "cycle", topics: int = 1) -> float:
    """Calls a second."""
    return float(client("bench.load.unary", target, seconds, CALLERS, kind, topics, timeout=seconds + GRACE))


def alone(kind: str, where: int | str) -> list[float]:
    """Median milliseconds of an insert, a claim and a commit; `where` is a port, or the URI of a MongoDB."""
    return [float(value) for value in client("bench.load.alone", kind, where, ROUNDS, timeout=GRACE).split()]


def measure_cycle(bench: Bench) -> list[Row]:
    """SQLite and MongoDB, and empty calls from the same client."""

    def floor(stack: ExitStack) -> Run:
        port = bare(stack, "grpc")
        return lambda: [cycle(f"127.0.0.1:{port}", bench.seconds, "empty")]

    def contender(engine: str) -> Contender:
        def start(stack: ExitStack) -> Run:
            server = bench.queue(engine).serve(stack)
            return lambda: [cycle(server.target, bench.seconds)]

        return Contender(engine, start, note=DURABLE[engine])

    contenders = [Contender("floor: empty grpc.aio call", floor)]
    for engine in (SQLITE, REPLICA_SET):
        contenders += [contender(engine), replace(raw.contender(bench, engine, 1, STEPS), against="")]
    return compare([CYCLE], contenders, bench.runs)


def measure_alone(bench: Bench) -> list[Row]:
    """REST and gRPC, on SQLite and a standalone MongoDB, the bare servers, and MongoDB with nothing but its driver."""

    def floor(kind: str, server: str) -> Contender:
        def start(stack: ExitStack) -> Run:
            port = bare(stack, server)
            return lambda: alone(f"bare_{kind}", port)

        return Contender(f"floor: bare {server}", start, against=f"floor: bare {server}")

    def contender(engine: str, face: str, against: str) -> Contender:
        def start(stack: ExitStack) -> Run:
            server = bench.queue(engine).serve(stack)
            port = server.port if face == "rest" else server.grpc_port
            return lambda: alone(face, port)

        name = f"{engine}, {'REST' if face == 'rest' else 'gRPC'}"
        return Contender(name, start, f"floor: bare {against}", DURABLE[engine])

    def driver(stack: ExitStack) -> Run:
        uri = bench.mongod(STANDALONE).uri
        return lambda: alone("mongodb", uri)

    contenders = [Contender(raw.name(STANDALONE), driver, "floor: bare uvicorn", DURABLE[STANDALONE])]
    for face, against in (("rest", "uvicorn"), ("grpc", "grpc")):
        contenders.append(floor(face, against))
        contenders += [contender(engine, face, against) for engine in (SQLITE, STANDALONE)]
    return compare(ONE, contenders, bench.runs)
