"""Claims and commits tasks in all ways."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration

from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb
from tests.reliability.hands import (
    CALL_SECONDS,
    CHANNEL,
    Hands,
    Rest,
    Unary,
    commit_message,
    delivery,
    reason_of,
    settle,
    status_reason,
)
from tests.reliability.history import Claim, Commit, Delivery, History, Outcome, Span, clock
from tests.reliability.soak.client import Client, Place, Slot
from tests.reliability.soak.mixture import ATTEMPTS, IN_FLIGHT, KINDS, RETRY_SECONDS, TIMEOUT
from tests.rpc.serving import Client as Stubs

EMPTY_SECONDS: Final = 0.02  # until the next claim over REST, which does not wait


def poll_request(topic: str, consumer: str, window: int, release_on_close: bool = False) -> promises_pb.PollRequest:
    request = promises_pb.PollRequest(
        topics=[topic], consumer=consumer, max_in_flight=window, release_on_close=release_on_close
    )
    request.timeout.CopyFrom(Duration(seconds=TIMEOUT // 1000))
    return request


class Consumer(Client):
    """All kinds of consumers, each with a name of its own."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._stubs = Stubs(place.target, CHANNEL)

    async def work(self) -> None:
        ways = {"rest": self._claim_by_rest, "unary": self._claim, "poll": self._poll, "work": self._work}
        await asyncio.gather(
            *(
                ways[kind.topic](kind.topic, f"{self.place.name}-{kind.topic}-{number}")
                for kind in KINDS
                for number in range(kind.consumers)
            )
        )
        await self.finish()
        await self._stubs.channel.close()

    async def _claim_by_rest(self, topic: str, consumer: str) -> None:
        history = History()
        await self._by_calls(Rest(self.place.url, history), history, topic, consumer, EMPTY_SECONDS)

    async def _claim(self, topic: str, consumer: str) -> None:
        history = History()
        await self._by_calls(Unary(self.place.target, history), history, topic, consumer, 0)

    async def _by_calls(self, hands: Rest | Unary, history: History, topic: str, consumer: str, pause: float) -> None:
        while not self.over.is_set():
            begin = clock()
            handed = await hands.claim(topic, consumer, TIMEOUT)
            self.log.write([one for one in history.claims if one.span.outcome is Outcome.UNKNOWN])
            history.claims.clear()
            history.deliveries.clear()
            self._received(handed)
            if handed:
                self.meter.took("claim", clock() - max(begin, min(one.scheduled for one in handed)))
                await asyncio.gather(*(self._commit_singly(hands, history, one) for one in handed))
                history.commits.clear()
            else:
                await self.pause(pause)
        await hands.close()

    async def _commit_singly(self, hands: Hands, history: History, held: Delivery) -> None:
        begin = clock()
        for _ in range(ATTEMPTS):
            commit = new_commit(held)
            await hands.commit(commit)
            if not self._settled([commit], begin):
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _poll(self, topic: str, consumer: str) -> None:
        async for handed in self._stream(topic, consumer):
            self.later(self._commit(handed))

    async def _stream(self, topic: str, consumer: str) -> Any:
        while not self.over.is_set():
            claim = Claim(consumer, (topic,), Span())
            self.log.write([claim])
            call = self._stubs.promises.Poll(poll_request(topic, consumer, IN_FLIGHT))
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for message in self._until_over(call):
                    handed = [delivery(task, claim) for task in message.tasks]
                    self._received(handed)
                    if handed:
                        yield handed
            self._ended(claim, call)
            await self.pause(RETRY_SECONDS)

    async def _commit(self, handed: Sequence[Delivery]) -> None:
        begin = clock()
        for _ in range(ATTEMPTS):
            commits = [new_commit(one) for one in handed]
            request = tasks_pb.CommitTasksRequest(commits=[commit_message(one) for one in commits])
            try:
                answer = await self._stubs.tasks.CommitTasks(request, timeout=CALL_SECONDS)
                reasons = [status_reason(result.status.code) for result in answer.results]
            except grpc.aio.AioRpcError as error:
                reasons = [reason_of(error)] * len(commits)
            for commit, reason in zip(commits, reasons, strict=True):
                settle(commit.span, reason)
            left = self._settled(commits, begin)
            handed = [one for one in handed if one.nonce in left]
            if not handed:
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _work(self, topic: str, consumer: str) -> None:
        while not self.over.is_set():
            claim = Claim(consumer, (topic,), Span())
            self.log.write([claim])
            call = self._stubs.promises.Work()
            sent: dict[int, list[Commit]] = {}
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                start = poll_request(topic, consumer, IN_FLIGHT)
                await call.write(promises_pb.WorkRequest(start=start))
                number = 0
                async for message in self._until_over(call):
                    if message.HasField("tasks") and message.tasks.tasks:
                        handed = [delivery(task, claim) for task in message.tasks.tasks]
                        self._received(handed)
                        number += 1
                        sent[number] = [new_commit(one) for one in handed]
                        request = tasks_pb.CommitTasksRequest(commits=[commit_message(one) for one in sent[number]])
                        await call.write(promises_pb.WorkRequest(sequence=number, commit=request))
                    elif message.HasField("results") and message.results.sequence:
                        self._answered(sent.pop(message.results.sequence), message.results)
            self._ended(claim, call)
            for commits in sent.values():
                for commit in commits:
                    commit.span.finish(Outcome.UNKNOWN, "TRANSPORT")
                self._settled(commits, commits[0].span.begin)
            await self.pause(RETRY_SECONDS)

    def _answered(self, commits: list[Commit], results: Any) -> None:
        whole = status_reason(results.status.code)
        for position, commit in enumerate(commits):
            settle(commit.span, whole or status_reason(results.commit.results[position].status.code))
        self._settled(commits, commits[0].span.begin)

    async def _until_over(self, call: Any) -> Any:
        """The messages of a stream, until it ends or we do."""
        over = asyncio.create_task(self.over.wait())
        try:
            while True:
                read = asyncio.ensure_future(call.read())
                await asyncio.wait((read, over), return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    read.cancel()
                    return
                if (message := read.result()) is grpc.aio.EOF:
                    return
                yield message
        finally:
            over.cancel()

    def _ended(self, claim: Claim, call: Any) -> None:
        claim.span.end = clock()
        call.cancel()
        self.log.write([claim])

    def _received(self, handed: Sequence[Delivery]) -> None:
        if not handed:
            return
        self.log.write(handed)
        self.meter.counts["handed"] += len(handed)
        self.tell(Slot.CONSUMED, handed[-1].consumed)
        for one in handed:
            self.meter.took("arrival", one.received - one.scheduled)

    def _settled(self, commits: Sequence[Commit], begin: float) -> set[str]:
        """Write down what came of commits that ended; the nonces of those whose outcome is unknown."""
        self.log.write(commits)
        done = [one for one in commits if one.span.outcome is Outcome.OK]
        refused = sum(one.span.outcome is Outcome.REFUSED for one in commits)
        if done:
            self.meter.took("commit", done[0].span.end - begin, len(done))
        self.meter.counts["committed"] += len(done)
        self.meter.counts["refused"] += refused
        self.meter.counts["unknown"] += len(commits) - len(done) - refused
        self.count(Slot.COMMITTED, len(done))
        return {one.nonce for one in commits if one.span.outcome is Outcome.UNKNOWN}


def new_commit(held: Delivery) -> Commit:
    return Commit(held.id, held.nonce, f'"{held.nonce}"', Span())
