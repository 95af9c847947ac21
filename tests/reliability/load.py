"""Clients of every kind that work on one topic until they are told to stop."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Final

import grpc

from ratus.model import TaskState
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb
from tests.reliability.hands import (
    CHANNEL,
    Hands,
    Rest,
    Unary,
    commit_message,
    delivery,
    reason_of,
    reason_of_end,
    settle,
    status_reason,
)
from tests.reliability.history import Claim, Commit, Delivery, Extension, History, Insert, Outcome, Release, Span, clock
from tests.rpc.serving import Client
from tests.server import Server

TOPIC: Final = "t"
LONG: Final = 60_000  # ms of a promise that is to hold over every fault
SHORT: Final = 300
PRODUCE_SECONDS: Final = 0.02  # mean pause of a producer
ATTEMPTS: Final = 60
RETRY_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 60  # until a server must be working again


class Load:
    """Producers and consumers on one server, or on several that share their storage.

    `name` tells it from others that work on them too. Promises that are not to be missed hold for `long` ms.
    """

    def __init__(
        self, servers: list[tuple[str, str]], seed: int, history: History, name: str = "", long: int = LONG
    ) -> None:
        self._servers = servers  # URL and target of each
        self._name = name
        self._long = long
        self._random = random.Random(seed)
        self._history = history
        self._ids = itertools.count()
        self._over = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()
        self.streams = [
            f"{name}c{number}-{kind}" for number in range(len(servers)) for kind in ("poll", "giving", "work")
        ]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work; in the end let calls that run finish."""
        hands: list[Rest | Unary] = []
        workers: list[Coroutine[Any, Any, None]] = []
        for number, (url, target) in enumerate(self._servers):
            name = f"{self._name}c{number}"
            rest, unary = Rest(url, self._history), Unary(target, self._history)
            hands += rest, unary
            workers += self._produce(rest), self._produce(unary)
            workers += (self._consume(each, f"{name}-{type(each).__name__}", self._long) for each in (rest, unary))
            workers.append(self._consume(unary, f"{name}-short", SHORT))
            workers += (
                self._poll(target, unary, f"{name}-poll", False),
                self._poll(target, unary, f"{name}-giving", True),
            )
            workers.append(self._work(target, unary, f"{name}-work"))
        running = [asyncio.create_task(worker) for worker in workers]
        try:
            yield
        finally:
            self._over.set()
            await asyncio.gather(*running)
            await asyncio.gather(*self._jobs)
            for each in hands:
                await each.close()

    async def _produce(self, hands: Hands) -> None:
        while not self._over.is_set():
            count = self._random.choice((1, 1, 1, 10))
            attempt, left = 0, [self._new_insert() for _ in range(count)]
            while left and attempt < ATTEMPTS and not self._over.is_set():
                await hands.insert(left)
                left = [
                    Insert(one.id, one.topic, one.payload, one.scheduled, Span())
                    for one in left
                    if one.span.outcome is Outcome.UNKNOWN
                ]
                attempt += 1
                await self._pause(RETRY_SECONDS if left else self._random.random() * 2 * PRODUCE_SECONDS * count)

    def _new_insert(self) -> Insert:
        id = f"task-{self._name}{next(self._ids)}"
        scheduled = int(clock()) + self._random.randint(1, 600) if self._random.random() < 0.3 else None
        return Insert(id, TOPIC, f'"{id}"', scheduled, Span())

    async def _consume(self, hands: Hands, consumer: str, timeout: int) -> None:
        while not self._over.is_set():
            for held in await hands.claim(TOPIC, consumer, timeout):
                if timeout == SHORT and self._random.random() < 0.3:  # one that comes back late
                    self._later(self._come_back_late(hands, held))
                else:
                    await self._finish(hands, held)
            await self._pause(0)

    async def _poll(self, target: str, hands: Hands, consumer: str, release_on_close: bool) -> None:
        async with Client(target, CHANNEL) as client:
            while not self._over.is_set():
                claim = Claim(consumer, (TOPIC,), Span(), releases=release_on_close)
                request = promises_pb.PollRequest(
                    topics=[TOPIC], consumer=consumer, max_in_flight=5, release_on_close=release_on_close
                )
                request.timeout.FromMilliseconds(self._long)
                self._history.claims.append(claim)
                call, reason = client.promises.Poll(request), ""
                try:
                    while (message := await self._unless_over(call.read())) not in (None, grpc.aio.EOF):
                        for held in self._handed(message.tasks, claim):
                            self._later(self._finish(hands, held))
                        if self._random.random() < 0.002:  # a consumer that goes away and comes again
                            break
                except grpc.aio.AioRpcError as error:
                    reason = reason_of(error)
                claim.span.finish(Outcome.UNKNOWN, reason)  # before the server hears of it
                call.cancel()
                await self._pause(RETRY_SECONDS)

    async def _work(self, target: str, hands: Hands, consumer: str) -> None:
        async with Client(target, CHANNEL) as client:
            while not self._over.is_set():
                claim = Claim(consumer, (TOPIC,), Span())
                self._history.claims.append(claim)
                call = client.promises.Work()
                start = promises_pb.PollRequest(topics=[TOPIC], consumer=consumer, max_in_flight=10)
                start.timeout.FromMilliseconds(self._long)
                sent: dict[int, list[Commit]] = {}
                number, reason = 0, ""
                try:
                    await call.write(promises_pb.WorkRequest(start=start))
                    while (message := await self._unless_over(call.read())) not in (None, grpc.aio.EOF):
                        if message.HasField("tasks") and message.tasks.tasks:
                            commits = [self._new_commit(held) for held in self._handed(message.tasks.tasks, claim)]
                            number += 1
                            sent[number] = commits
                            self._history.commits += commits
                            request = tasks_pb.CommitTasksRequest(commits=[commit_message(one) for one in commits])
                            await call.write(promises_pb.WorkRequest(sequence=number, commit=request))
                        elif message.HasField("results") and message.results.sequence:
                            self._answered(sent.pop(message.results.sequence), message.results, hands)
                except grpc.aio.AioRpcError as error:
                    reason = reason_of(error)
                except asyncio.InvalidStateError:  # a write to a stream that has ended
                    reason = await reason_of_end(call)
                claim.span.finish(Outcome.UNKNOWN, reason)  # before the server hears of it
                call.cancel()
                for commit in itertools.chain.from_iterable(sent.values()):
                    commit.span.finish(Outcome.UNKNOWN)
                    self._later(self._commit(hands, commit))
                await self._pause(RETRY_SECONDS)

    def _answered(self, commits: list[Commit], results: Any, hands: Hands) -> None:
        whole = status_reason(results.status.code)
        for position, commit in enumerate(commits):
            settle(commit.span, whole or status_reason(results.commit.results[position].status.code))
            if commit.span.outcome is Outcome.UNKNOWN:  # else it would keep its place in the window of the stream
                self._later(self._commit(hands, commit))

    def _handed(self, tasks: Any, claim: Claim) -> list[Delivery]:
        handed = [delivery(task, claim) for task in tasks]
        self._history.deliveries += handed
        return handed

    async def _finish(self, hands: Hands, held: Delivery) -> None:
        choice = self._random.random()
        if choice < 0.1:
            await hands.release(Release(held.id, held.nonce, Span()))
        elif choice < 0.15:  # a consumer that commits twice
            await asyncio.gather(*(hands.commit(self._new_commit(held)) for _ in range(2)))
        else:
            if choice < 0.25:
                await hands.extend(Extension(held.id, held.nonce, int(clock()) + self._long, Span()))
            await self._commit(hands, held)

    async def _commit(self, hands: Hands, held: Delivery | Commit) -> None:
        for _ in range(ATTEMPTS):
            commit = self._new_commit(held)
            await hands.commit(commit)
            if commit.span.outcome is not Outcome.UNKNOWN or self._over.is_set():
                return
            await self._pause(RETRY_SECONDS)

    async def _come_back_late(self, hands: Hands, held: Delivery) -> None:
        await self._pause((held.deadline - clock()) / 1000 + self._random.random() * 0.1)
        await self._commit(hands, held)

    def _new_commit(self, held: Delivery | Commit) -> Commit:
        payload = f'"commit-{self._name}{next(self._ids)}"'
        if self._random.random() < 0.1:  # to be done again
            scheduled = int(clock()) + self._random.randint(0, 300)
            return Commit(held.id, held.nonce, payload, Span(), TaskState.PENDING, scheduled)
        return Commit(held.id, held.nonce, payload, Span())

    def _later(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _pause(self, seconds: float) -> None:
        """What a client does between calls; cut short in the end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), max(seconds, 0))

    async def _unless_over(self, reading: Any) -> Any:
        """What is read, or None in the end."""
        read, over = asyncio.ensure_future(reading), asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((read, over), return_when=asyncio.FIRST_COMPLETED)
            return await read if read.done() else None
        finally:
            over.cancel()
            read.cancel()


async def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def under_load(server: Server, seed: int, history: History) -> AsyncIterator[None]:
    """Start a server and work with it, from the first answers until the end; then stop both."""
    await asyncio.to_thread(server.start)
    try:
        async with Load([(server.url, server.target)], seed, history).running():
            await served(history, clock(), ANSWER_SECONDS)
            yield
    finally:
        await asyncio.to_thread(server.stop)


async def served(history: History, since: float, seconds: float) -> dict[str, float]:
    """How many ms after `since` an insert was acknowledged that had begun later, and a task handed out."""
    inserted = handed = 0.0
    seen_inserts, seen_deliveries = len(history.inserts), len(history.deliveries)
    pending: list[Insert] = [one for one in history.inserts[-200:] if one.span.begin > since]

    def answered() -> bool:
        nonlocal inserted, handed, seen_inserts, seen_deliveries
        pending.extend(one for one in history.inserts[seen_inserts:] if one.span.begin > since)
        seen_inserts = len(history.inserts)
        inserted = inserted or next((one.span.end for one in pending if one.span.outcome is Outcome.OK), 0.0)
        for one in history.deliveries[seen_deliveries:]:
            handed = handed or (one.received if one.consumed > since else 0.0)
        seen_deliveries = len(history.deliveries)
        return bool(inserted and handed)

    await until(answered, seconds, "the service does not answer again")
    return {"insert": inserted - since, "hand-out": handed - since}


async def resumed(history: History, streams: Iterable[str], since: float, seconds: float) -> float:
    """How many ms after `since` each of these consumers was handed a task that was claimed later."""
    waiting, seen, last = set(streams), len(history.deliveries), 0.0

    def all_are() -> bool:
        nonlocal seen, last
        for one in history.deliveries[seen:]:
            if one.consumer in waiting and one.consumed > since:
                waiting.discard(one.consumer)
                last = max(last, one.received)
        seen = len(history.deliveries)
        return not waiting

    await until(all_are, seconds, "streams do not resume")
    return last - since
