"""A call that claims tasks once."""

import asyncio
from datetime import datetime, timedelta

from ratus import rules
from ratus.core.answers import room_in_answer
from ratus.errors import Draining, RatusError
from ratus.model import ClaimRequest, Grant, Task


class Claimant:
    """A call that claims up to `limit` tasks once. Its answer is the first tasks that there are."""

    def __init__(self, request: ClaimRequest, key: str = "") -> None:
        self._request = request
        self._key = key
        self._patient = bool(request.wait)
        self._tasks: list[Task] = []
        self._reserved = 0
        self._looked = False  # a claim has found nothing for it, so that nothing is an answer
        self._cut_short = False  # its wait was ended by a drain, so that nothing is no answer
        self._answer: asyncio.Future[list[Task]] = asyncio.get_running_loop().create_future()

    @property
    def wanted(self) -> int:
        """The tasks that are missing."""
        return self._request.limit - len(self._tasks)

    def abandon(self) -> list[Task]:
        """Take no more tasks; what has to be released. What has a key is left for the repeat of the call."""
        if not self._answer.cancel() and not self._answer.cancelled():
            self._answer.exception()  # nobody will ask for it
        return [] if self._key else self._tasks

    def drain(self) -> None:
        """End the wait with Draining, unless a claim is under way that finds something."""
        self._cut_short |= self._patient
        self._patient = False
        if not self._reserved and not self._answer.done():
            self._answer.set_exception(Draining())

    async def answer(self) -> list[Task]:
        """Wait for the answer, or as long as the request says; a claim under way and the first one are waited for."""
        if not self._patient:
            return await self._answer
        assert self._request.wait is not None
        try:
            async with asyncio.timeout(self._request.wait / timedelta(seconds=1)):
                return await asyncio.shield(self._answer)
        except TimeoutError:
            self._patient = False
            if not self._reserved and self._looked:
                self._finish()
            return await self._answer

    def reserve(self) -> bool:
        """Keep a place for one more task."""
        if self._answer.done() or self._reserved + len(self._tasks) >= self._request.limit:
            return False
        self._reserved += 1
        return True

    def grant(self, now: datetime) -> Grant:
        """What the promise for one task sets on it."""
        return rules.grant(self._request.consumer, self._request.deadline, self._request.timeout, now, self._key)

    def deliver(self, tasks: list[Task], unused: int) -> list[Task]:
        """Take what fits into the answer."""
        self._reserved -= len(tasks) + unused
        if self._answer.done():
            return [] if self._key and self._answer.cancelled() else tasks
        self._tasks += tasks
        fit = room_in_answer(self._tasks) if self._tasks else 0
        refused = self._tasks[fit:]
        del self._tasks[fit:]
        if refused or len(self._tasks) == self._request.limit or (self._tasks and unused):
            self._finish()
        return refused

    def dry(self) -> None:
        """Answer with what there is, if the call does not wait."""
        self._looked = True
        if self._cut_short and not self._tasks:
            self.fail(Draining(), 0)
        elif self._tasks or not self._patient:
            self._finish()

    def fail(self, error: RatusError, unused: int) -> None:
        """Answer with what there is, else with the error."""
        self._reserved -= unused
        if self._tasks:  # of an earlier batch; they are the answer
            self._finish()
        elif not self._answer.done():
            self._answer.set_exception(error)

    def _finish(self) -> None:
        if not self._answer.done():
            self._answer.set_result(self._tasks)
