"""What an operator asks for: a look at everything, and copies of the storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import BinaryIO, Final

from ratus import times
from ratus.engines.base import Engine
from ratus.errors import TooMany
from ratus.model import Check, Outcome

_LATE: Final = timedelta(minutes=1)  # for a missed deadline not to have been acted on


class Upkeep:
    """Looks after the storage of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._copying = False

    async def diagnose(self, *, thorough: bool) -> list[Check]:
        """What the engine finds, and whether missed deadlines are acted on."""
        return [*await self._engine.diagnose(thorough=thorough), await self._recovery()]

    async def _recovery(self) -> Check:
        deadline = await self._engine.next_deadline()
        late = timedelta(0) if deadline is None else times.now() - deadline
        if late > _LATE:
            detail = f"a deadline was missed {times.format_duration(late)} ago: is --chore-interval 0 on every server?"
            return Check("recovery", Outcome.FAILED, detail)
        return Check("recovery", Outcome.OK, "no missed deadline waits")

    @asynccontextmanager
    async def backup(self) -> AsyncIterator[BinaryIO]:
        """A copy of the storage, one at a time; TooMany, Unsupported."""
        if self._copying:
            raise TooMany("another backup is being made, wait for its end")
        self._copying = True
        try:
            with await self._engine.backup() as copy:
                yield copy
        finally:
            self._copying = False
