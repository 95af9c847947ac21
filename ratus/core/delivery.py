"""Delivery: which consumers of this process wait for which topic, and what wakes them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, Final, TypeVar

from ratus import rules, times
from ratus.config import MAX_ANSWER_BYTES
from ratus.core.answers import room_in_answer
from ratus.core.claimant import Claimant
from ratus.core.claimer import Claimer, Offer
from ratus.core.neighbours import Neighbours
from ratus.core.subscription import Subscription
from ratus.core.windows import Windows
from ratus.engines.base import Engine
from ratus.errors import Draining, RatusError, StorageUnavailable, TooMany
from ratus.model import ClaimRequest, Hold, PollRequest, Task

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)

MAX_WAITERS: Final = 100_000  # calls and streams of this process
_CLOCK_CHECK: Final = 1.0  # seconds between looks at the clock, which may have been set
_IDLE_CLAIMERS: Final = 1000  # kept for topics without consumers
_MAX_OFFER: Final = 16  # tasks
_RELEASE_PAUSES: Final = (0.1, 0.5, *[2.0] * 60)  # seconds; a promise that cannot be released ends by its deadline


class Delivery:
    """Hands due tasks to the consumers of this process."""

    def __init__(self, engine: Engine, claimed: Callable[[Sequence[Task]], None]) -> None:
        self.windows = Windows()
        self._engine = engine
        self._claimed = claimed
        self._claimers: dict[str, Claimer] = {}
        self._claimants: set[Claimant] = set()
        self._claiming = 0  # calls that went straight to the engine
        self._subscriptions: set[Subscription] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._evict_at = _IDLE_CLAIMERS
        neighbours = Neighbours(engine, heard=self._heard, dry=self._dry, reconcile=self.reconcile_watchful)
        self._neighbours = self._start(neighbours.run()) if engine.shared else None
        self._clock: asyncio.Task[None] | None = None  # looked at once there are claimers
        self._listen: Callable[[], AbstractContextManager[None]] = neighbours.listen if engine.shared else nullcontext

    async def claim(self, request: ClaimRequest, key: str = "") -> list[Task]:
        """Claim tasks for a call, the grants with its key.

        A caller that is cancelled gets none: what was claimed for it is released.
        """
        self._admit()
        if not request.wait and not self.waiting(request.topic):
            return await self._claim_now(request, key)
        self._evict()
        claimer = self._claimer(request.topic)
        claimant = Claimant(request, key)
        self._claimants.add(claimant)
        claimer.attach(claimant)
        claimer.join(claimant)
        try:
            return await claimant.answer()
        except asyncio.CancelledError:
            self._release_tasks(claimant.abandon())
            raise
        finally:
            claimer.detach(claimant)
            self._claimants.discard(claimant)

    async def _claim_now(self, request: ClaimRequest, key: str) -> list[Task]:
        """Claim for a call that does not wait, where nobody else does whose turn it would be."""
        now = times.now()
        grants = [
            rules.grant(request.consumer, request.deadline, request.timeout, now, key) for _ in range(request.limit)
        ]
        abandoned = None if key else self._release_tasks  # what has a key is left for the repeat of the call
        self._claiming += 1
        try:
            tasks = await self._engine.claim(request.topic, grants, MAX_ANSWER_BYTES, abandoned)
        finally:
            self._claiming -= 1
        self._claimed(tasks)
        fit = room_in_answer(tasks) if tasks else 0
        self._release_tasks(tasks[fit:])
        return tasks[:fit]

    def subscribe(self, request: PollRequest, *, notices: bool) -> Subscription:
        """Open a stream, with notices of lost tasks if wanted; Draining, TooMany."""
        self._admit()
        self._evict()
        claimers = [self._claimer(topic) for topic in dict.fromkeys(request.topics)]
        subscription = Subscription(request, self.windows, claimers, self._on_close, notices=notices)
        self._subscriptions.add(subscription)
        return subscription

    def _admit(self) -> None:
        if self._draining:
            raise Draining()
        if self._claiming + len(self._claimants) + len(self._subscriptions) >= MAX_WAITERS:
            raise TooMany(f"{MAX_WAITERS} calls and streams are waiting")

    def _on_close(self, subscription: Subscription, holds: Sequence[Hold]) -> None:
        self._subscriptions.discard(subscription)
        self._release(holds)

    def waiting(self, topic: str) -> int:
        """The number of consumers of this process that wait for a topic."""
        claimer = self._claimers.get(topic)
        return 0 if claimer is None else claimer.waiting

    def offer(self, tasks: Sequence[Task], now: datetime) -> Offer | None:
        """Offer a few tasks that are about to be inserted to consumers that wait for such."""
        claimer = self._claimers.get(tasks[0].topic)
        if claimer is None or len(tasks) > _MAX_OFFER or self._draining:
            return None
        return claimer.offer(tasks, now)

    async def hand_over(self, offer: Offer) -> list[bool]:
        """Insert the tasks of an offer and hand them over; tell for each whether it was stored.

        A caller that is cancelled does not stop it, since the tasks may be stored by then.
        """
        return await asyncio.shield(self._start(self._insert_and_deliver(offer)))

    async def _insert_and_deliver(self, offer: Offer) -> list[bool]:
        try:
            created = await self._engine.insert(offer.tasks)
        except Exception:
            offer.withdraw()
            self._release_tasks(offer.tasks)  # they may have been stored
            raise
        offer.take([task for task, is_new in zip(offer.tasks, created, strict=True) if is_new])
        return created

    def pending(self, tasks: Iterable[Task], now: datetime) -> None:
        """Wake consumers for tasks that have become pending."""
        if self._claimers:
            for task in tasks:
                if (claimer := self._claimers.get(task.topic)) is not None:
                    claimer.notify(task.scheduled, now)

    def recheck(self, topics: Iterable[str]) -> None:
        """Wake the consumers of topics in which tasks may have become pending."""
        for topic in topics:
            if (claimer := self._claimers.get(topic)) is not None:
                claimer.recheck()

    async def reconcile(self) -> None:
        """Ask the storage which tasks in the windows are still held, after something that may have changed many."""
        await self._reconcile(self.windows.holds())

    async def reconcile_watchful(self) -> None:
        """The same for the streams to which it matters at once."""
        await self._reconcile([hold for stream in self._subscriptions if stream.watchful for hold in stream.holds()])

    async def _reconcile(self, holds: Sequence[Hold]) -> None:
        if holds:
            held = await self._engine.held(holds)
            self.windows.settle((hold for hold, is_held in zip(holds, held, strict=True) if not is_held), lost=True)

    def overruled(self, ids: Sequence[str], held: Sequence[Hold]) -> None:
        """Something has ended all promises on tasks; `held` is what windows held of them before it was begun."""
        ended = set(ids)
        self.windows.settle((hold for hold in held if hold.id in ended), lost=True)
        if since := self.windows.holds_of(ids):  # the storage knows whether that was delivered before it or after it
            self._start(self._reconcile(since))

    def _heard(self, topic: str | None, scheduled: datetime) -> None:
        if topic is None:
            self.recheck(list(self._claimers))
        elif (claimer := self._claimers.get(topic)) is not None:
            claimer.notify(scheduled, times.now())

    def _dry(self) -> list[str]:
        return [topic for topic, claimer in self._claimers.items() if claimer.is_dry]

    async def _look_at_clock(self) -> None:
        """Let nobody wait for a time that the clock shows, though the timer that was set for it does not.

        Whether the clock was set is not asked, as it may have been set back in between.
        """
        while True:
            await asyncio.sleep(_CLOCK_CHECK)
            now = times.now()
            for claimer in self._claimers.values():
                claimer.look(now)
            for subscription in self._subscriptions:
                subscription.look(now)

    def drain(self) -> None:
        """End all streams and waits with Draining, and admit no more."""
        self._draining = True
        for claimant in self._claimants:
            claimant.drain()
        for subscription in self._subscriptions:
            subscription.drain()

    async def close(self) -> None:
        """Finish what is under way in the background, once nobody waits any more."""
        for watch in (self._neighbours, self._clock):
            if watch is not None:
                watch.cancel()
        await asyncio.gather(*(claimer.stop() for claimer in self._claimers.values()))
        while self._background:  # the end of one may be the begin of another
            await asyncio.wait(self._background)

    def _evict(self) -> None:
        """Forget the claimers of topics without consumers, once there are many."""
        if len(self._claimers) >= self._evict_at:
            for idle in [name for name, claimer in self._claimers.items() if claimer.idle]:
                self._start(self._claimers.pop(idle).stop())
            self._evict_at = max(_IDLE_CLAIMERS, 2 * len(self._claimers))

    def _claimer(self, topic: str) -> Claimer:
        claimer = self._claimers.get(topic)
        if claimer is None:
            if self._clock is None:
                self._clock = self._start(self._look_at_clock())
            claimer = self._claimers[topic] = Claimer(
                topic,
                self._engine,
                claimed=self._claimed,
                release=self._release_tasks,
                listen=self._listen,
            )
        return claimer

    def _release_tasks(self, tasks: Sequence[Task]) -> None:
        self._release([Hold(task.id, task.nonce) for task in tasks])

    def _release(self, holds: Sequence[Hold]) -> None:
        if holds:
            self._start(self._release_soon(holds))

    async def _release_soon(self, holds: Sequence[Hold]) -> None:
        for pause in (*_RELEASE_PAUSES, None):
            try:
                topics = await self._engine.release(holds)
            except StorageUnavailable:
                if pause is None or self._draining:
                    _log.warning("%d tasks could not be released; they wait for their deadlines", len(holds))
                    return
                await asyncio.sleep(pause)
                continue
            self.windows.settle(holds)
            self.recheck({topic for topic in topics if topic is not None})
            return

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RatusError):
            _log.error("something in the background has failed", exc_info=error)
