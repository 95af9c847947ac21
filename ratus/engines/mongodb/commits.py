"""Commits: singly with one find-and-modify, together by reading, deciding and a guarded write."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from ratus import rules
from ratus.engines.mongodb import documents, errors, guarded
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

    def __init__(self, collection: Collection, fallbacks: Fallbacks) -> None:
        self._collection = collection
        self._fallbacks = fallbacks
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
        """What is written together, within the bounds of a write; then all that goes singly."""
        single: list[int] = []
        part: list[int] = []
        size = 0
        for index in wave:
            bytes_ = _size(commits[index])
            if not commits[index].nonce or bytes_ > _CHUNK_BYTES:
                single.append(index)
                continue
            if len(part) == guarded.CHUNK or size + bytes_ > _CHUNK_BYTES:
                yield part
                part, size = [], 0
            part.append(index)
            size += bytes_
        if part:
            yield part
        if single:
            yield single

    async def _apply_distinct(self, commits: Sequence[Commit], projection: Projection) -> list[Result]:
        together = len(commits) > 1 and all(commit.nonce for commit in commits)
        if together and not self._fallbacks.active(Operation.COMMIT):
            return await self._apply_together(commits, projection)
        return await self._apply_singly(commits, projection)

    async def _apply_singly(self, commits: Sequence[Commit], projection: Projection) -> list[Result]:
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
        query = {"_id": {"$in": [commit.id for commit in commits]}}
        found: list[RawBSONDocument] = await self._collection.find(query, projection).to_list()
        tasks = {task.id: task for task in map(documents.decode, found)}
        results: list[Result] = []
        for commit in commits:
            task = tasks.get(commit.id)
            results.append(NotFound() if task is None else rules.committed(task, commit))
        accepted = [index for index, result in enumerate(results) if isinstance(result, Task)]
        entries = [Guarded(commits[i].id, commits[i].nonce, _changes(commits[i])) for i in accepted]
        if not entries:
            return results
        outcomes = await guarded.write(self._collection, self._fallbacks, Operation.COMMIT, entries)
        for index, outcome in zip(accepted, outcomes, strict=True):
            if outcome is None:
                results[index] = StorageUnavailable("the outcome of the commit is unknown")
        # Others came between reading and writing, or the write was refused: one by one is always exact.
        again = [index for index, outcome in zip(accepted, outcomes, strict=True) if outcome is False]
        done = await self._apply_singly([commits[index] for index in again], projection)
        for index, result in zip(again, done, strict=True):
            results[index] = result
        return results


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
