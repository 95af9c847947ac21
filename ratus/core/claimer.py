"""One claimer a topic: it gathers all consumers that want tasks now and feeds them in turn from batched claims.

So consumers of one process do not fight over the head of the queue, concurrent claims become one batch while the
one before is under way, and streams and unary claims get their tasks in the same order from the same index.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Final

from ratus import rules, times
from ratus.config import MAX_ANSWER_BYTES, MAX_CLAIM
from ratus.core.slots import Consumer, grants_of, meeting, reserve
from ratus.engines.base import Engine
from ratus.errors import Internal, RatusError, StorageUnavailable
from ratus.gather import quiet
from ratus.model import Task

_log: Final = logging.getLogger(__name__)

_FIRST_SLOTS: Final = 16  # of a claim when nobody knows how many tasks are due; four times as many while that is few
_FIRST_PAUSE: Final = 0.1  # seconds, after the storage failed
_LONGEST_PAUSE: Final = 2.0
_PATIENCE: Final = 0.02  # seconds without a task of this process, after which others are listened to


class Claimer:
    """Feeds the hungry ones among the consumers of one topic."""

    def __init__(
        self,
        topic: str,
        engine: Engine,
        *,
        claimed: Callable[[Sequence[Task]], None],
        release: Callable[[Sequence[Task]], None],
        listen: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._topic = topic
        self._engine = engine
        self._claimed = claimed
        self._release = release
        self._listen = listen
        self._consumers: set[Consumer] = set()
        self._hungry: dict[Consumer, None] = {}  # in the order of their turns
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._size = _FIRST_SLOTS  # of the next claim, unless more is known to be due or wanted
        self._news = 0  # tasks that became due since the last claim, as far as we know
        self._dry = False  # no task was due, and none has become due since, as far as we know
        self._due_at: datetime | None = None  # the earliest known time of a task that is not due yet
        self._due_at_known = False  # whether the storage was asked for it
        self._claiming = False  # a claim is under way
        self._ending = False
        self._asked_anew = False  # while the storage is being asked
        self._listening = False  # to other processes

    @property
    def waiting(self) -> int:
        """The number of hungry consumers."""
        return len(self._hungry)

    @property
    def is_dry(self) -> bool:
        """Whether consumers wait for a topic that had no due task, as far as we know."""
        return self._dry and bool(self._hungry)

    @property
    def idle(self) -> bool:
        """Whether there is nobody to feed, now or later, and nothing under way."""
        return not self._consumers and not self._claiming

    def attach(self, consumer: Consumer) -> None:
        """Know a consumer."""
        self._consumers.add(consumer)

    def detach(self, consumer: Consumer) -> None:
        """Forget a consumer; what is under way for it is offered to it still."""
        self._consumers.discard(consumer)
        self.leave(consumer)

    async def stop(self) -> None:
        """End once a claim that is under way has been answered, so that what it brings can be released."""
        self._ending = True
        self._wake.set()
        task = self._task
        if task is not None:
            if not self._claiming:
                task.cancel()
            await asyncio.wait([task])

    def join(self, consumer: Consumer) -> None:
        """Feed an attached consumer from the next claim on."""
        self._hungry.setdefault(consumer)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"claimer of {self._topic}")

    def leave(self, consumer: Consumer) -> None:
        """Feed a consumer no more until it joins again."""
        self._hungry.pop(consumer, None)
        if self._listening and not self._hungry:
            self._wake.set()

    def notify(self, scheduled: datetime, now: datetime) -> None:
        """A task has become pending."""
        if scheduled <= now:
            self._news += 1
            self._dry = False
        elif self._due_at is None or scheduled < self._due_at:
            self._due_at = scheduled
        else:
            return
        if self._hungry:
            self._wake.set()

    def offer(self, tasks: Sequence[Task], now: datetime) -> "Offer | None":
        """Offer tasks that are about to be inserted to consumers that wait for exactly such.

        None unless all of the tasks are due and of this topic, no task is waiting before them as far as we know, and
        there is room for all. They can then be inserted as claimed, which spares writing them twice.
        """
        if not self._dry or self._claiming or not self._hungry:
            return None
        if not self._due_at_known or (self._due_at is not None and self._due_at <= now):
            return None  # a task may have become due before these
        if len({task.id for task in tasks}) < len(tasks) or any(
            task.topic != self._topic or task.state or task.scheduled > now for task in tasks
        ):
            return None
        slots = reserve(list(self._hungry), len(tasks))
        grants = grants_of(slots, now)
        offer = Offer(self, slots, [rules.claimed(task, grant) for task, grant in zip(tasks, grants, strict=False)])
        if len(slots) < len(tasks) or any(grant.request for grant in grants):  # a request is stored by claims only
            offer.withdraw()
            return None
        return offer

    def hand_over(self, slots: list[Consumer], tasks: list[Task]) -> None:
        """Deliver tasks that were claimed for slots, of which there may be fewer."""
        self._claimed(tasks)
        self._deliver(slots, tasks)
        for consumer in set(slots[: len(tasks)]):
            consumer.dry()  # what it got was all
        if len(tasks) < len(slots):
            self._wake.set()  # something may have come while the places were kept

    def recheck(self) -> None:
        """Tasks may have become pending, nobody knows when to be executed."""
        self._due_at_known = self._dry = False
        self._asked_anew = True
        if self._hungry:
            self._wake.set()

    def look(self, now: datetime) -> None:
        """See what the clock shows, which may have been set since the timer was."""
        if self._hungry and self._due_at is not None and self._due_at <= now:
            self._wake.set()

    async def _run(self) -> None:
        pause = 0.0
        try:
            while not self._ending:
                self._wake.clear()
                if self._is_due():
                    self._due_at, self._due_at_known, self._dry = None, False, False
                try:
                    await self._feed()
                    await self._learn_due_at()
                    pause = 0.0
                except StorageUnavailable:
                    pause = min(max(_FIRST_PAUSE, 2 * pause), _LONGEST_PAUSE)
                except Exception:  # noqa: BLE001 (a fault; streams must not stop for it in silence)
                    _log.exception("the claimer of topic %r has failed", self._topic)
                    for consumer in list(self._consumers):
                        consumer.fail(Internal(), 0)
                    pause = _LONGEST_PAUSE
                await self._sleep(pause)
        finally:
            self._task = None

    def _is_due(self) -> bool:
        return self._due_at is not None and self._due_at <= times.now()

    async def _sleep(self, pause: float) -> None:
        """Wait for a wake-up, for the time of the next task, or for a pause after a failure to be over."""
        if pause:  # whoever joins would only fail as well
            await asyncio.sleep(pause)
            return
        if not self._hungry:
            await self._wake.wait()
            return
        with ExitStack() as listening:
            patience = _PATIENCE if self._dry else None
            while not self._wake.is_set():
                seconds = patience
                if self._due_at is not None:
                    left = max((self._due_at - times.now()) / timedelta(seconds=1), 0.001)
                    seconds = left if patience is None else min(patience, left)
                try:
                    async with asyncio.timeout(seconds):
                        await self._wake.wait()
                except TimeoutError:
                    if self._is_due() or not self._hungry:
                        return
                    if patience is not None:
                        listening.enter_context(self._listen_to_others())
                        patience = None

    @contextmanager
    def _listen_to_others(self) -> Iterator[None]:
        """Listen, until woken, as the last consumer that leaves does."""
        self._listening = True
        try:
            with self._listen():
                yield
        finally:
            self._listening = False

    async def _learn_due_at(self) -> None:
        """Ask the storage for the time of the next task, where it is not known."""
        if self._dry and not self._due_at_known and self._hungry:
            self._asked_anew = False
            stored = await self._engine.next_scheduled(self._topic)
            self._due_at_known = not self._asked_anew
            if stored is not None and (self._due_at is None or stored < self._due_at):
                self._due_at = stored

    async def _feed(self) -> None:
        """Claim until the topic has no due task or its consumers have no room."""
        while True:
            if any(consumer.wanted for consumer in self._hungry):
                await quiet(lambda: len(self._hungry), MAX_CLAIM)
            asked = list(self._hungry)
            wanted = sum(consumer.wanted for consumer in asked)
            if self._ending or (self._dry and not wanted):
                return
            size = min(max(self._size, self._news, wanted), MAX_CLAIM)
            slots = reserve(asked, size)
            if not slots:
                return
            self._news, self._dry = 0, True  # unless we are told otherwise from here on
            tasks = await self._claim(slots)
            if not tasks:
                for consumer in asked:
                    consumer.dry()
                return
            self._dry = False
            self._size = min(4 * size, MAX_CLAIM) if len(tasks) == size else _FIRST_SLOTS

    async def _claim(self, slots: list[Consumer]) -> list[Task]:
        """Claim a task for every slot and deliver what there is."""
        now = times.now()
        grants = grants_of(slots, now)
        self._claiming = True
        try:
            tasks = await self._engine.claim(self._topic, grants, MAX_ANSWER_BYTES)
        except Exception as error:
            self._dry = False
            for consumer, places in Counter(slots).items():
                consumer.fail(error if isinstance(error, RatusError) else Internal(), places)
            raise
        finally:
            self._claiming = False
        self._claimed(tasks)
        self._deliver(meeting(tasks, grants, slots), tasks)
        return tasks

    def _deliver(self, slots: list[Consumer], tasks: list[Task]) -> None:
        portions: dict[Consumer, list[Task]] = {consumer: [] for consumer in slots}
        for consumer, task in zip(slots, tasks, strict=False):
            portions[consumer].append(task)
        refused: list[Task] = []
        for consumer, places in Counter(slots).items():
            portion = portions[consumer]
            if portion and consumer in self._hungry:  # whoever was served goes to the end of the line
                del self._hungry[consumer]
                self._hungry[consumer] = None
            refused += consumer.deliver(portion, places - len(portion))
        if refused:
            self._release(refused)


class Offer:
    """Tasks with the promises of the consumers that will get them once they are stored."""

    def __init__(self, claimer: Claimer, slots: list[Consumer], tasks: list[Task]) -> None:
        self._claimer = claimer
        self._slots = slots
        self.tasks = tasks

    def withdraw(self) -> None:
        """Hand nothing over."""
        self._claimer.hand_over(self._slots, [])

    def take(self, stored: Sequence[Task]) -> None:
        """Hand over those of the tasks that were stored."""
        ids = {task.id for task in stored}
        tasks = [task for task in self.tasks if task.id in ids]
        # Slots without a task come last, so that the tasks meet the slots whose promises they carry.
        slots = [slot for slot, task in zip(self._slots, self.tasks, strict=False) if task.id in ids]
        slots += [slot for slot, task in zip(self._slots, self.tasks, strict=False) if task.id not in ids]
        self._claimer.hand_over(slots, tasks)
