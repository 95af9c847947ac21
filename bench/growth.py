"""Does it cost the same when much is stored, in many topics, with large payloads, and after many deletes?"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from typing import Final

import grpc

from bench import batches, fill, raw, unary
from bench.contenders import Contender, Run, Section, compare
from bench.load.batches import many_topics
from bench.results import Row
from bench.setup import DURABLE, REPLICA_SET, SQLITE, Bench
from ratus.model import Task
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from tests.server import Server

ENGINES: Final = (SQLITE, REPLICA_SET)
TOPICS: Final = 10_000
DELETE_SECONDS: Final = 1800
PAYLOADS: Final = {"100 B": 100, "10 KiB": 10 * 2**10, "1 MiB": 2**20}
STORED: Final = [
    Section("Growth: batches of 100 with Poll, tasks stored", "full tasks/s"),
    Section("Growth: memory of the server after that", "MiB"),
]
FLOOR: Final = Section("Growth: SQLite by itself in batches of 100, tasks stored", "full tasks/s")
ALONE: Final = [Section(f"Growth: one {step} alone over gRPC, tasks stored, p50", "ms") for step in unary.ALONE_STEPS]
OVER_TOPICS: Final = Section(f"Growth: topics, calls one by one, {unary.CALLERS} callers", "calls/s")
PAYLOAD: Final = Section("Growth: payloads, batches of 100 or 16 MiB with Poll", "full tasks/s")
DELETED: Final = Section("Growth: after deletes at the head of the queue, batches of 100 with Poll", "full tasks/s")


def measure(bench: Bench) -> list[Row]:
    """All of it."""
    return [*measure_stored(bench), *measure_topics(bench), *measure_payloads(bench), *measure_deletes(bench)]


def memory(server: Server) -> float:
    """MiB."""
    return sum(process.memory_info().rss for process in server.processes()) / 2**20


def serve_filled(bench: Bench, stack: ExitStack, engine: str, tasks: Iterator[Task]) -> Server:
    """A server whose queue has these tasks."""
    queue = bench.queue(engine)
    fill.fill(queue, tasks)
    return queue.serve(stack)


def measure_stored(bench: Bench) -> list[Row]:
    """Few and many stored tasks, in all states; half of them in the topic that is worked on, due later or before."""
    with ExitStack() as servers:

        @cache
        def serve(engine: str, count: int) -> Server:
            return serve_filled(bench, servers, engine, fill.mixed(count, [fill.TOPIC, fill.BACKLOG]))

        def through_batches(engine: str, count: int, topic: str, name: str) -> Contender:
            def start(stack: ExitStack) -> Run:
                server = serve(engine, count)
                return lambda: [batches.drive(server.target, bench.seconds, "--topic", topic), memory(server)]

            return Contender(name, start, stored(engine, bench.few), DURABLE[engine])

        def alone(engine: str, count: int) -> Contender:
            def start(stack: ExitStack) -> Run:
                server = serve(engine, count)
                return lambda: unary.alone("grpc", server.grpc_port)

            return Contender(stored(engine, count), start, stored(engine, bench.few), DURABLE[engine])

        contenders: list[Contender] = []
        for engine in ENGINES:
            sizes = (bench.few, bench.stored)
            contenders += [through_batches(engine, count, fill.TOPIC, stored(engine, count)) for count in sizes]
            name = f"{stored(engine, bench.stored)}, an eighth due before"
            contenders.append(through_batches(engine, bench.stored, fill.BACKLOG, name))
        singles = [alone(engine, count) for engine in ENGINES for count in (bench.few, bench.stored)]
        # Alone first, as what goes through the batches stays in the store.
        rows = compare(ALONE, singles, bench.runs)
        rows = [*compare(STORED, contenders, bench.runs), *rows]
    floors = [
        raw.contender(bench, SQLITE, batches.BATCH, stored=count, against=bench.few)
        for count in (bench.few, bench.stored)
    ]
    return [*rows, *compare([FLOOR], floors, bench.runs)]


def stored(engine: str, count: int) -> str:
    """The name of a row."""
    return f"{engine}, {count:,} stored"


def measure_topics(bench: Bench) -> list[Row]:
    """One topic and many, the tasks stored spread over them too."""

    def named(engine: str, topics: int) -> str:
        return f"{engine}, {topics:,} topic{'s' * (topics > 1)}"

    def contender(engine: str, topics: int) -> Contender:
        def start(stack: ExitStack) -> Run:
            server = serve_filled(bench, stack, engine, fill.mixed(bench.few, many_topics(topics)))
            return lambda: [unary.cycle(server.target, bench.seconds, topics=topics)]

        return Contender(named(engine, topics), start, named(engine, 1), DURABLE[engine])

    return compare(
        [OVER_TOPICS], [contender(engine, topics) for engine in ENGINES for topics in (1, TOPICS)], bench.runs
    )


def measure_payloads(bench: Bench) -> list[Row]:
    """From small to as large as may be."""

    def contender(engine: str, size: str) -> Contender:
        def start(stack: ExitStack) -> Run:
            server = bench.queue(engine).serve(stack)
            return lambda: [batches.drive(server.target, bench.seconds, "--payload", PAYLOADS[size])]

        return Contender(f"{engine}, {size}", start, f"{engine}, {next(iter(PAYLOADS))}", DURABLE[engine])

    return compare([PAYLOAD], [contender(engine, size) for engine in ENGINES for size in PAYLOADS], bench.runs)


def measure_deletes(bench: Bench) -> list[Row]:
    """A tenth of what is stored elsewhere, all due, deleted by the server before the first run."""

    def contender(engine: str, count: int) -> Contender:
        def start(stack: ExitStack) -> Run:
            server = serve_filled(bench, stack, engine, fill.due(count))
            with grpc.insecure_channel(server.target) as channel:
                request = tasks_pb.DeleteTasksRequest(topic=fill.BACKLOG, state=task_pb2.TASK_STATE_PENDING)
                deleted = TaskServiceStub(channel).DeleteTasks(request, timeout=DELETE_SECONDS).deleted
            assert deleted == count, f"{deleted} of {count} tasks were deleted"
            return lambda: [batches.drive(server.target, bench.seconds, "--topic", fill.BACKLOG)]

        return Contender(f"{engine}, {count:,} deletes", start, f"{engine}, 0 deletes", DURABLE[engine])

    counts = (0, bench.stored // 10)
    return compare([DELETED], [contender(engine, count) for engine in ENGINES for count in counts], bench.runs)
