"""Other queues at the same work, beside ours, each at its durable setting."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from bench import batches, rest, services, unary
from bench.contenders import Contender, Run, Section, client, compare
from bench.results import Row
from bench.setup import DURABLE, REPLICA_SET, SQLITE, Bench

GRACE: Final = 120.0  # seconds that a client may take beyond its measuring
SINGLY: Final = Section("Full tasks one by one, 32 at once", "full tasks/s")
BATCHED: Final = Section("Full tasks in batches of 100, all at once", "full tasks/s")
DISPATCH: Final = [Section(f"From insert to an idle consumer, {name}", "ms") for name in ("p50", "p99")]

Service = Callable[[Bench, ExitStack], str]


def peer(
    bench: Bench, mode: str, name: str, load: tuple[str, str], service: Service, durability: str, against: str
) -> Contender:
    """Another queue, its load generator and client, and its server."""

    def start(stack: ExitStack) -> Run:
        address = service(bench, stack)

        def run() -> list[float]:
            module, queue = load
            timeout = bench.seconds + GRACE
            output = client(f"bench.load.{module}", queue, mode, address, bench.seconds, timeout=timeout)
            return [float(value) for value in output.split()]

        return run

    return Contender(f"peer: {name}", start, against, durability)


def peers(bench: Bench, mode: str, against: str) -> list[Contender]:
    """All that have this mode."""
    fsync = "fsync before the answer"
    known = [
        ("beanstalkd", ("drive", "beanstalkd"), services.beanstalkd, f"binlog, {fsync} (-f0)"),
        ("NATS JetStream", ("drive", "nats"), services.nats, "file, no fsync before the answer"),
        ("pgqueuer on PostgreSQL", ("drive", "pgqueuer"), services.postgresql, f"WAL, {fsync}"),
        ("Celery on Redis", ("workers", "celery"), services.celery, f"append-only file, {fsync}"),
        ("RQ on Redis", ("workers", "rq"), services.rq, f"append-only file, {fsync}"),
    ]
    return [peer(bench, mode, *entry, against) for entry in known if (mode, entry[0]) != ("batched", "Celery on Redis")]


def ours(bench: Bench, engine: str, path: str, drive: Callable[[Bench, str], Run]) -> Contender:
    """Our server; `drive` makes a run of its gRPC target."""

    def start(stack: ExitStack) -> Run:
        return drive(bench, bench.queue(engine).serve(stack).target)

    return Contender(f"Ratus on {engine}, {path}", start, f"Ratus on {SQLITE}, {path}", DURABLE[engine])


def measure(bench: Bench) -> list[Row]:
    """One by one, in batches, and the latency of dispatch."""
    return [*measure_singly(bench), *measure_batched(bench), *measure_dispatch(bench)]


def measure_singly(bench: Bench) -> list[Row]:
    """A call for every step."""

    def grpc(bench: Bench, target: str) -> Run:
        return lambda: [unary.cycle(target, bench.seconds) / unary.STEPS]

    def over_rest(stack: ExitStack) -> Run:
        server = bench.queue(SQLITE).serve(stack)
        return lambda: [rest.drive(server.url, bench.seconds) / unary.STEPS]

    contenders = [ours(bench, engine, "gRPC", grpc) for engine in (SQLITE, REPLICA_SET)]
    contenders.append(Contender(f"Ratus on {SQLITE}, REST", over_rest, contenders[0].name, DURABLE[SQLITE]))
    return compare([SINGLY], [*contenders, *peers(bench, "singly", contenders[0].name)], bench.runs)


def measure_batched(bench: Bench) -> list[Row]:
    """Many tasks a message, where there is such a thing."""

    def poll(bench: Bench, target: str) -> Run:
        return lambda: [batches.drive(target, bench.seconds)]

    contenders = [ours(bench, engine, "Poll", poll) for engine in (SQLITE, REPLICA_SET)]
    return compare([BATCHED], [*contenders, *peers(bench, "batched", contenders[0].name)], bench.runs)


def measure_dispatch(bench: Bench) -> list[Row]:
    """One task now and then."""

    def poll(bench: Bench, target: str) -> Run:
        return lambda: dispatch(bench, target)

    def across(stack: ExitStack) -> Run:
        queue = bench.queue(REPLICA_SET)
        servers = [queue.serve(stack), queue.serve(stack)]
        return lambda: dispatch(bench, ",".join(server.target for server in servers))

    contenders = [ours(bench, engine, "Poll", poll) for engine in (SQLITE, REPLICA_SET)]
    name = f"Ratus on {REPLICA_SET}, Poll at another server"
    contenders.append(Contender(name, across, contenders[0].name, DURABLE[REPLICA_SET]))
    return compare(DISPATCH, [*contenders, *peers(bench, "dispatch", contenders[0].name)], bench.runs)


def dispatch(bench: Bench, address: str) -> list[float]:
    """p50 and p99 of the milliseconds from insert to arrival."""
    timeout = bench.seconds + GRACE
    output = client("bench.load.drive", "ratus", "dispatch", address, bench.seconds, timeout=timeout)
    return [float(value) for value in output.split()]
