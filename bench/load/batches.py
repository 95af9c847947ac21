"""Full tasks through batches: a producer inserts, a stream delivers, commits go back, all at once.

Prints how many full tasks a second, the lesser of what was inserted and what was committed.
`python -m bench.load.batches TARGET SECONDS [--work] [--topics N] [--topic NAME] [--payload BYTES]`
"""

import argparse
import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator

import uvloop
from google.protobuf.duration_pb2 import Duration

from bench.load.calls import PAYLOAD, Calls, channel, commits, task
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb

BATCH = 100  # tasks a message
MESSAGE_BYTES = 16 * 2**20  # of payloads; half of what a request may have
PRODUCERS = 4  # calls at once, and as many commits
AHEAD = 20_000  # tasks that may be inserted and not committed
AHEAD_BYTES = 64 * 2**20
WINDOW = 4_000  # tasks that may be delivered and not committed
WARM_UP = 1.0  # seconds
READY_RATE = 30_000  # tasks a second that are built before the clock runs
READY_BYTES = 64 * 2**20
LEAST = 5  # messages that have to be inserted and committed before a rate is told, however long it takes
LEAST_SECONDS = 60
TIMEOUT = Duration(seconds=60)


class Work:
    """What the parts share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.topics: list[str] = [options.topic] if options.topics == 1 else many_topics(options.topics)
        self.payload = PAYLOAD if options.payload is None else text(options.payload)
        self.batch = max(1, min(BATCH, MESSAGE_BYTES // len(self.payload)))
        self.ahead = max(2 * self.batch, min(AHEAD, AHEAD_BYTES // len(self.payload)))
        self.inserted = self.committed = self.pending = 0
        self.over = False
        self.room = asyncio.Event()
        self.arrived = asyncio.Event()
        self.delivered: deque[task_pb2.Task] = deque()

    def messages(self) -> Iterator[bytes]:
        """Requests to insert."""
        while True:
            tasks = [task(random.choice(self.topics), self.payload) for _ in range(self.batch)]
            yield tasks_pb.InsertTasksRequest(tasks=tasks).SerializeToString()

    def next_batch(self) -> list[task_pb2.Task]:
        """Delivered tasks, up to a message full."""
        return [self.delivered.popleft() for _ in range(min(BATCH, len(self.delivered)))]

    def note_commits(self, count: int) -> None:
        self.committed += count
        self.room.set()


def many_topics(count: int) -> list[str]:
    return [f"bench-{number}" for number in range(count)]


def text(size: int) -> bytes:
    """JSON text of so many bytes."""
    return b'"' + bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=size - 2)) + b'"'


async def produce(calls: Calls, work: Work, ready: Iterator[bytes]) -> None:
    while not work.over:
        while work.inserted - work.committed >= work.ahead and not work.over:
            work.room.clear()
            await work.room.wait()
        await calls.inserts(next(ready))
        work.inserted += work.batch


async def commit_singly(calls: Calls, work: Work) -> None:
    """One commit call after the other, each with what has been delivered by then."""
    while True:
        while not work.delivered:
            work.arrived.clear()
            await work.arrived.wait()
        batch = work.next_batch()
        await calls.commits(commits(batch).SerializeToString())
        work.note_commits(len(batch))


def request(work: Work) -> promises_pb.PollRequest:
    return promises_pb.PollRequest(topics=work.topics, consumer="bench", timeout=TIMEOUT, max_in_flight=WINDOW)


async def poll(calls: Calls, work: Work) -> None:
    committers = [asyncio.create_task(commit_singly(calls, work)) for _ in range(PRODUCERS)]
    try:
        async for answer in calls.poll(request(work).SerializeToString()):
            work.delivered.extend(answer.tasks)
            work.arrived.set()
    finally:
        for committer in committers:
            committer.cancel()
        await asyncio.wait(committers)


async def stream(calls: Calls, work: Work) -> None:
    """The same on a stream that takes the commits too."""
    call = calls.work()
    await call.write(promises_pb.WorkRequest(start=request(work)).SerializeToString())
    sequence = 0
    while True:
        answer = await call.read()
        if answer.WhichOneof("response") == "results":
            work.note_commits(len(answer.results.commit.results))
            continue
        work.delivered.extend(answer.tasks.tasks)
        while work.delivered:
            sequence += 1
            message = promises_pb.WorkRequest(sequence=sequence, commit=commits(work.next_batch()))
            await call.write(message.SerializeToString())


async def main(options: argparse.Namespace) -> None:
    work = Work(options)
    source = work.messages()
    count = min(READY_RATE * options.seconds / work.batch, READY_BYTES / len(work.payload) / work.batch)
    ready = deque(next(source) for _ in range(int(count)))

    def messages() -> Iterator[bytes]:
        while ready:
            yield ready.popleft()
        yield from source

    built = messages()
    async with channel(options.target) as inserting, channel(options.target) as working:
        calls = Calls(inserting)
        consumer = asyncio.create_task((stream if options.work else poll)(Calls(working), work))
        producers = [asyncio.create_task(produce(calls, work, built)) for _ in range(PRODUCERS)]
        everybody = {consumer, *producers}
        await asyncio.wait(everybody, timeout=WARM_UP, return_when=asyncio.FIRST_EXCEPTION)
        inserted, committed, begin = work.inserted, work.committed, time.perf_counter()
        await asyncio.wait(everybody, timeout=options.seconds, return_when=asyncio.FIRST_EXCEPTION)
        while (full := min(work.inserted - inserted, work.committed - committed)) < LEAST * work.batch:
            if time.perf_counter() > begin + options.seconds + LEAST_SECONDS:
                raise TimeoutError(f"{full} tasks in {LEAST_SECONDS} s")
            await asyncio.wait(everybody, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
        print(full / (time.perf_counter() - begin))
        work.over = True
        work.room.set()
        await asyncio.gather(*producers)
        consumer.cancel()
        await asyncio.wait({consumer})
        if not consumer.cancelled() and consumer.exception():
            raise consumer.exception()  # type: ignore[misc]  # there is one, as was just asked


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--work", action="store_true")
    parser.add_argument("--topic", default="bench")
    parser.add_argument("--topics", type=int, default=1)
    parser.add_argument("--payload", type=int, metavar="BYTES")
    uvloop.run(main(parser.parse_args()))
