"""Claims take turns: one at a time on a topic, and those of few tasks on several topics together.

What comes for a topic while a claim on it is under way shares the next one, so that claims of one process do not fight
over the head of the queue. Claims of few tasks do so for all topics, because a command costs more than what it does,
unless there are enough of them for one more. A claim of many tasks keeps no other topic waiting.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Any, Final

from ratus.engines.base import Abandoned
from ratus.engines.mongodb.claims import Claims, Outcome, Wanted
from ratus.errors import StorageUnavailable
from ratus.gather import quiet
from ratus.model import Grant, Task
from ratus.reply import Reply

_FEW: Final = 16  # tasks of a topic, up to which it is claimed from together with others
_UNITED: Final = 32  # topics
_MANY: Final = 1000  # tasks of a topic that calls may share; a call is not split


@dataclass(eq=False, slots=True)
class _Call:
    grants: Sequence[Grant]
    max_bytes: int
    reply: Reply[Sequence[Task]]


@dataclass(eq=False, slots=True)
class _Line:
    """The calls that wait for a topic."""

    topic: str
    calls: deque[_Call] = field(default_factory=deque)
    weight: int = 0  # tasks that they want
    busy: bool = False  # a claim is under way

    def add(self, call: _Call) -> None:
        self.calls.append(call)
        self.weight += len(call.grants)

    def begin(self) -> list[_Call]:
        """The calls that are begun together, which wait no more."""
        self.busy = True
        calls: list[_Call] = []
        weight = 0
        while self.calls and (not calls or weight + len(self.calls[0].grants) <= _MANY):
            call = self.calls.popleft()
            self.weight -= len(call.grants)
            if call.reply.is_wanted:
                calls.append(call)
                weight += len(call.grants)
        return calls

    def end(self, again: Sequence[_Call]) -> None:
        """Those that were begun have ended, but for some that have to be done again."""
        self.busy = False
        self.calls.extendleft(reversed(again))
        self.weight += sum(len(call.grants) for call in again)


class Turns:
    """Runs claims."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._loop: Final = asyncio.get_running_loop()
        self._lines: dict[str, _Line] = {}
        self._few: dict[_Line, None] = {}  # those of few that are not busy, in the order of their turns
        self._uniting = False  # somebody sees to them
        self._alone = True  # the last claim on such was for no more than one call
        self._arrived = 0
        self._running: set[asyncio.Task[object]] = set()

    async def claim(
        self, topic: str, grants: Sequence[Grant], max_bytes: int, abandoned: Abandoned | None = None
    ) -> Sequence[Task]:
        """Give due tasks to the grants, earliest first: at least one if there is one, however large it is.

        A caller that is cancelled does not stop it; its tasks are then given to `abandoned`.
        """
        line = self._lines.get(topic)
        if line is None:
            line = self._lines[topic] = _Line(topic)
        call = _Call(grants, max_bytes, Reply(self._loop, abandoned))
        line.add(call)
        self._arrived += 1
        if not line.busy:
            self._line_up(line)
        return await call.reply.wait()

    async def close(self) -> None:
        """Return when all calls have been answered."""
        while self._running:
            await asyncio.wait(self._running)

    def _line_up(self, line: _Line) -> None:
        if line.weight > _FEW:
            self._few.pop(line, None)
            line.busy = True
            self._start(self._run([line]))
            return
        self._few[line] = None
        if not self._uniting:
            self._uniting = True
            self._start(self._run_few())
        elif len(self._few) >= _UNITED:  # enough for a claim of their own, beside the one that is under way
            self._start(self._run(self._next_few()))

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        running = asyncio.create_task(work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _run_few(self) -> None:
        """Run what lines of few want, until there are none."""
        try:
            while self._few:
                if not self._alone or len(self._few) > 1 or len(next(iter(self._few)).calls) > 1:
                    await quiet(lambda: self._arrived, self._arrived + _MANY)
                self._alone = await self._run(self._next_few()) <= 1
        finally:
            self._uniting = False

    def _next_few(self) -> list[_Line]:
        """Lines whose calls begin now."""
        lines = list(islice(self._few, _UNITED))
        for line in lines:
            del self._few[line]
            line.busy = True
        return lines

    async def _run(self, lines: Sequence[_Line]) -> int:
        """Claim for lines; for how many calls."""
        begun = [(line, line.begin()) for line in lines]
        wanted = [_wanted(line.topic, calls) for line, calls in begun if calls]
        outcomes: Iterator[Outcome | BaseException]
        try:
            outcomes = iter(await self._claims.claim(wanted) if wanted else [])
        except asyncio.CancelledError:  # nobody of us does that
            outcomes = repeat(StorageUnavailable("the claim was cancelled"))
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is the answer to every call)
            outcomes = repeat(error)
        for line, calls in begun:
            line.end(_answer(calls, next(outcomes)) if calls else [])
            if line.calls:
                self._line_up(line)
            else:
                del self._lines[line.topic]
        return sum(len(calls) for _, calls in begun)


def _wanted(topic: str, calls: Sequence[_Call]) -> Wanted:
    return Wanted(
        topic,
        [grant for call in calls for grant in call.grants],
        by=max(call.grants[0].consumed for call in calls),
        max_bytes=max(call.max_bytes for call in calls),
    )


def _answer(calls: Sequence[_Call], outcome: Outcome | BaseException) -> list[_Call]:
    """Answer calls that shared a claim; those that have to be done again."""
    if isinstance(outcome, BaseException):
        for call in calls:
            call.reply.give(outcome)
        return []
    if len(calls) == 1 and (outcome.tasks or not outcome.cut):
        calls[0].reply.give(outcome.tasks)
        return []
    owners = {grant.nonce: index for index, call in enumerate(calls) for grant in call.grants}
    portions: list[list[Task]] = [[] for _ in calls]
    for task in outcome.tasks:
        portions[owners[task.nonce]].append(task)
    again: list[_Call] = []
    for call, portion in zip(calls, portions, strict=True):
        # That nothing is due is known only once a claim has found nothing.
        if not portion and (outcome.cut or outcome.tasks) and call.reply.is_wanted:
            again.append(call)
        else:
            call.reply.give(portion)
    return again
