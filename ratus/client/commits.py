"""Commits: concurrent ones are gathered into one call, and repeated until their outcome is known.

A commit whose answer was lost is repeated. It may have been applied, and then the repeat is refused, since the nonce
is cleared: `NonceMismatch`, as if another consumer had taken the task. So the task is read, and when it is as the
commit would have left it, the commit counts as applied.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from ratus.client import payloads
from ratus.errors import BadRequest, Draining, NonceMismatch, RatusError, TooLarge, Unavailable
from ratus.gather import Gatherer
from ratus.model import Commit, Task, TaskState
from ratus.rpc.connection import Connection, OneAttempt
from ratus.rpc.remote_calls import RemoteCalls
from ratus.rpc.remote_work import RemoteWork
from ratus.times import MILLISECOND

Outcome: TypeAlias = RatusError | None

MAX_BATCH: Final = 1000  # entries of 4 KiB


class Entry(NamedTuple):
    """A commit, and the task as it was claimed, if that is known."""

    commit: Commit
    claimed: Task | None


class Committer:
    """Commits over a Work stream while there is one, or else by calls."""

    def __init__(self, connection: Connection) -> None:
        self.stream: RemoteWork | None = None
        self._connection = connection
        self._calls = RemoteCalls(OneAttempt(connection))
        self._gatherer = Gatherer(self._run, MAX_BATCH, _weight)

    async def commit(self, commit: Commit, claimed: Task | None = None) -> None:
        """Apply a commit. RatusError."""
        [outcome] = await self._gatherer.submit([Entry(commit, claimed)])
        if outcome is not None:
            raise outcome

    async def close(self) -> None:
        """Return when all is done."""
        await self._gatherer.close()

    async def _run(self, entries: Sequence[Entry]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(entries)
        left = list(range(len(entries)))
        repeated = False
        patience = self._connection.patience()
        while left:
            answers = await self._send([entries[index].commit for index in left])
            for index, answer in zip(left, answers, strict=True):
                if repeated and isinstance(answer, NonceMismatch) and await self._applied(entries[index]):
                    answer = None
                outcomes[index] = answer
            left = [index for index in left if _repeatable(entries[index], outcomes[index])]
            if not left or not await patience.again():
                break
            repeated = True
        return outcomes

    async def _send(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        try:
            if self.stream is not None and self.stream.is_open:
                return await self.stream.commit(commits)
            answers = await self._calls.commit_tasks(commits, return_tasks=False)
            return [answer if isinstance(answer, RatusError) else None for answer in answers]
        except (BadRequest, TooLarge) as error:  # one of them fails all
            if len(commits) == 1:
                return [error]
            half = len(commits) // 2
            return [*await self._send(commits[:half]), *await self._send(commits[half:])]
        except RatusError as error:
            return [error] * len(commits)

    async def _applied(self, entry: Entry) -> bool:
        try:
            return is_applied(entry.commit, entry.claimed, await self._calls.get_task(entry.commit.id))
        except RatusError:
            return False


def is_applied(commit: Commit, claimed: Task | None, now: Task) -> bool:
    """Whether a task is as a commit would have left it; `claimed` is the task before."""
    if commit.topic and now.topic != commit.topic:
        return False
    if claimed is not None and now.consumed != claimed.consumed:
        # It was claimed again since, which only what the commit alone has changed can tell from a missed deadline.
        moved = bool(commit.topic) and commit.topic != claimed.topic
        return moved or _rescheduled(commit, claimed, now)
    if now.state != (TaskState.COMPLETED if commit.state is None else commit.state) or now.nonce:
        return False
    if commit.payload is not None and payloads.decode(commit.payload) != payloads.decode(now.payload):
        return False
    waits = commit.scheduled is not None or commit.defer is not None
    return not waits or claimed is None or _rescheduled(commit, claimed, now)


def _rescheduled(commit: Commit, claimed: Task, now: Task) -> bool:
    if commit.scheduled is not None:
        return commit.scheduled != claimed.scheduled and abs(now.scheduled - commit.scheduled) < MILLISECOND
    return commit.defer is not None and now.scheduled != claimed.scheduled


def _repeatable(entry: Entry, outcome: Outcome) -> bool:
    """Whether to try again. Without a nonce that is safe only as long as it cannot have been applied."""
    return isinstance(outcome, Draining) or (isinstance(outcome, Unavailable) and bool(entry.commit.nonce))


def _weight(entry: Entry) -> int:
    payload = entry.commit.payload
    return 1 if payload is None else 1 + len(bytes(payload)) // 4096
