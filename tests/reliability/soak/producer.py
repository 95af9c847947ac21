"""Inserts tasks in all ways: as fast as they are done, or so many a second whatever happens to them."""

import asyncio
from typing import Any, Final

from tests.reliability.hands import Hands, Rest, Unary
from tests.reliability.history import History, Insert, Outcome, Span, clock
from tests.reliability.soak.client import Client, Place, Slot
from tests.reliability.soak.log import task_id
from tests.reliability.soak.mixture import ATTEMPTS, DEFER, DEFERRED, KINDS, RETRY_SECONDS, Kind

TICK_SECONDS: Final = 0.002
OUTSTANDING: Final = 4000  # tasks, when the capacity is measured
CALLS: Final = 300  # under way at most
DEBT_SECONDS: Final = 5.0  # what was not inserted for so long is left out


class Producer(Client):
    """An order is the number of tasks a second; without one, tasks follow those that are done."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._history = History()  # only for the hands to write to
        rest, unary = Rest(place.url, self._history), Unary(place.target, self._history)
        self._hands: dict[str, Hands] = {kind.topic: rest if kind.topic == "rest" else unary for kind in KINDS}
        self._close = (rest.close, unary.close)
        self._weights = [kind.share / kind.batch for kind in KINDS]
        self._number = 0
        self._rate = 0.0
        self._next = 0.0  # when the next task is due, in ms

    def order(self, order: Any) -> None:
        if isinstance(order, float):
            self._rate, self._next = order, clock()
        else:
            super().order(order)

    async def work(self) -> None:
        while not self.over.is_set():
            while self.under_way < CALLS and (due := self._due()) is not None:
                [kind] = self.dice.choices(KINDS, self._weights)
                self._next += kind.batch / self._rate * 1000 if self._rate else 0
                self.later(self._insert(kind, due))
                self._history.inserts.clear()
            await asyncio.sleep(TICK_SECONDS)
        await self.finish()
        for close in self._close:
            await close()

    def _due(self) -> float | None:
        """When the task was due that is to be inserted now, if one is."""
        now = clock()
        if not self._rate:
            done = self.all_of(Slot.COMMITTED)
            return now if self._number - done < OUTSTANDING else None
        if self._next < now - DEBT_SECONDS * 1000:
            self.meter.counts["left out"] += int((now - self._next) / 1000 * self._rate)
            self._next = now
        return self._next if self._next <= now else None

    async def _insert(self, kind: Kind, due: float) -> None:
        left = [self._new(kind) for _ in range(kind.batch)]
        for _ in range(ATTEMPTS):
            await self._hands[kind.topic].insert(left)
            self.log.write(left)
            there = [one for one in left if one.span.outcome is not Outcome.UNKNOWN]
            if there:
                self.meter.took("insert", there[0].span.end - due, len(there))
                self.meter.counts["inserted"] += len(there)
                self.count(Slot.INSERTED, len(there))
                self.tell(Slot.BEGUN, there[0].span.begin)
            left = [
                Insert(one.id, one.topic, one.payload, one.scheduled, Span())
                for one in left
                if one.span.outcome is Outcome.UNKNOWN
            ]
            if not left:
                return
            self.meter.counts["unknown"] += len(left)
            await asyncio.sleep(RETRY_SECONDS)  # also in the end, so that every outcome is known
            left = [Insert(one.id, one.topic, one.payload, one.scheduled, Span()) for one in left]
        raise TimeoutError(f"{left[0].id} could not be inserted")

    def _new(self, kind: Kind) -> Insert:
        id = task_id(self._number)
        self._number += 1
        scheduled = int(clock()) + self.dice.randint(*DEFER) if self.dice.random() < DEFERRED else None
        return Insert(id, kind.topic, f'"{id}"', scheduled, Span())
