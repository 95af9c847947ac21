"""Commits: singly with one find-and-modify, together with a write that is guarded by the nonces.

To tell what has become of the tasks, those that were not claimed here lately are read before.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from ratus import rules
from ratus.engines.mongodb import documents, errors, guarded
from ratus.engines.mongodb.claimed import Claimed
from ratus.engines.mongodb.fallback import Collection, Fallbacks, Modifier, Operation
from ratus.engines.mongodb.guarded import Guarded
from ratus.errors import NonceMismatch, NotFound, RatusError, StorageUnavailable
from ratus.model import Commit, Task

Result = Task | RatusError
Projection = Mapping[str, Any] | None

_CHUNK_BYTES: Final = 1024 * 1024  # of new payloads in one write, whose statement the server bounds by 16 MiB
_SINGLES: Final = 16  # at the same time


class Commits:
    """Applies commits."""

    def __init__(self, collection: Collection, fallbacks: Fallbacks, claimed: Claimed) -> None:
        self._collection = collection
        self._fallbacks = fallbacks
        self._claimed = claimed
        self._modifier = Modifier(collection, fallbacks)
        self._singles = asyncio.Semaphore(_SINGLES)

    async def apply(self, entries: Sequence[tuple[Commit, bool]]) -> list[Result]:
        """Apply commits in order, each with whether the payload of its task is wanted.

        Those of different tasks do not see each other, so only equal ids need to wait.
        """
        commits = [commit for commit, _ in entries]
        projection = None if any(payloads for _, payloads in entries) else documents.NO_PAYLOAD
        results: list[Result | None] = [None] * len(commits)
        for wave in _waves(commits):
            for indexes in self._parts(commits, wave):
                done = await self._apply_distinct([commits[index] for index in indexes], projection)
                for index, result in zip(indexes, done, strict=True):
                    results[index] = result
        return [result for result in results if result is not None]

    def _parts(self, commits: Sequence[Commit], wave: Sequence[int]) -> Iterator[list[int]]:
        """What is written together, within the bounds of a write."""
        part: list[int] = []
        size = 0
        for index in wave:
            more = _size(commits[index])
            if part and (len(part) == guarded.CHUNK or size + more > _CHUNK_BYTES):
                yield part
                part, size = [], 0
            part.append(index)
            size += more
        if part:
            yield part

    async def _apply_distinct(self, commits: Sequence[Commit], projection: Projection) -> list[Result]:
        if len(commits) == 1 or self._fallbacks.active(Operation.COMMIT):
            self._claimed.forget(commit.id for commit in commits)
            return await self._apply_singly(commits, projection)
        return await self._apply_together(commits, projection)

    async def _apply_singly(self, commits: Sequence[Commit], projection: Projection) -> list[Result]:
        if len(commits) == 1:
            return [await self._apply_one(commits[0], projection)]
        return await asyncio.gather(*(self._apply_one(commit, projection) for commit in commits))

    async def _apply_one(self, commit: Commit, projection: Projection) -> Result:
        query = {"_id": commit.id, "nonce": commit.nonce} if commit.nonce else {"_id": commit.id}
        async with self._singles:
            try:
                document = await self._modifier.modify(Operation.COMMIT, query, _changes(commit), projection=projection)
                if document is not None:
                    return documents.decode(document)
                exists = await self._collection.find_one({"_id": commit.id}, {"_id": 1})
            except PyMongoError as error:
                ours = errors.translate(error)
                if ours is None:
                    raise
                return ours
        return NotFound() if exists is None else NonceMismatch()

    async def _apply_together(self, commits: Sequence[Commit], projection: Projection) -> list[Result]:
        claimed = [self._claimed.get(commit.id, commit.nonce) for commit in commits]
        self._claimed.forget(commit.id for commit in commits)
        results: list[Result | None] = [None] * len(commits)
        known = {index: task for index, task in enumerate(claimed) if task is not None}
        single = await self._write(commits, known, results, untouched=True)
        unknown = [index for index, task in enumerate(claimed) if task is None]
        if unknown:
            found = await self._read([commits[index].id for index in unknown], projection)
            stored = {index: found[commits[index].id] for index in unknown if commits[index].id in found}
            for index in unknown:
                results[index] = NotFound()
            single += await self._write(commits, stored, results)
        done = await self._apply_singly([commits[index] for index in single], projection)
        for index, result in zip(single, done, strict=True):
            results[index] = result
        return [result for result in results if result is not None]

    async def _read(self, ids: Sequence[str], projection: Projection) -> dict[str, Task]:
        found: list[RawBSONDocument] = await self._collection.find({"_id": {"$in": ids}}, projection).to_list()
        return {task.id: task for task in map(documents.decode, found)}

    async def _write(
        self,
        commits: Sequence[Commit],
        tasks: Mapping[int, Task],
        results: list[Result | None],
        *,
        untouched: bool = False,
    ) -> list[int]:
        """Commit to these tasks as they are; the indexes of those for which that cannot be known."""
        entries: dict[int, Guarded] = {}
        single: list[int] = []
        for index, task in tasks.items():
            result = results[index] = rules.committed(task, commits[index])
            if not isinstance(result, Task):
                continue
            # Without a nonce the one that is known is as good a guard, but no nonce at all is none.
            if task.nonce:
                entries[index] = Guarded(task.id, task.nonce, _changes(commits[index]))
            else:
                single.append(index)
        if not entries:
            return single
        outcomes = await guarded.write(
            self._collection, self._fallbacks, Operation.COMMIT, list(entries.values()), untouched=untouched
        )
        for index, outcome in zip(entries, outcomes, strict=True):
            if outcome is None:
                results[index] = StorageUnavailable("the outcome of the commit is unknown")
            elif not outcome:
                # Others came between reading and writing, or the write was refused: one by one is always exact.
                single.append(index)
        return single


def _changes(commit: Commit) -> dict[str, Any]:
    changes: dict[str, Any] = {"state": commit.state, "nonce": ""}
    if commit.topic:
        changes["topic"] = commit.topic
    if commit.scheduled is not None:
        changes["scheduled"] = commit.scheduled
    if commit.payload is not None:
        assert not isinstance(commit.payload, bytes)
        changes["payload"] = documents.encode_payload(commit.payload)
    return changes


def _size(commit: Commit) -> int:
    return 0 if commit.payload is None else len(memoryview(commit.payload))


def _waves(commits: Sequence[Commit]) -> list[list[int]]:
    """Indexes in groups without equal ids, such that equal ids are in the groups in their order."""
    waves: list[list[int]] = []
    seen: dict[str, int] = {}
    for index, commit in enumerate(commits):
        wave = seen.get(commit.id, 0)
        seen[commit.id] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(index)
    return waves
