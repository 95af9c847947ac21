"""Writes of many tasks at once, each guarded by its nonce, that tell for each whether it was applied.

The server only tells how many documents it has changed, and nothing when the connection is lost; and a nonce that is
gone does not tell who has cleared it. So every write leaves a token of its own in the documents, a field that the
original does not mind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.fallback import Collection, Fallbacks, Operation
from ratus.rules import new_nonce

CHUNK: Final = 500  # documents in one write; the server searches its lists from the start

_ATTEMPTS: Final = 3
_TOKEN: Final = "token"  # noqa: S105 (no secret: the name of a field)


@dataclass(frozen=True, slots=True)
class Guarded:
    """The fields to set on a task if it still has this nonce."""

    id: str
    nonce: str
    changes: Mapping[str, Any]


def merge_by_id(ids: Sequence[str], changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The update that gives each document the changes that stand where its id does."""
    return [{"$replaceWith": {"$mergeObjects": ["$$ROOT", at_id(ids, changes)]}}]


def at_id(ids: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The value that stands where the id of the document does; `$` in what users chose means nothing."""
    return {"$arrayElemAt": [{"$literal": values}, {"$indexOfArray": [{"$literal": ids}, "$_id"]}]}


async def write(
    collection: Collection,
    fallbacks: Fallbacks,
    operation: Operation,
    entries: Sequence[Guarded],
    *,
    untouched: bool = False,
) -> list[bool | None]:
    """Write at most CHUNK entries with different ids; tell for each whether it was applied, None if that is unknown.

    With `untouched` what was changed since the promise is left as it is too, although its nonce is the same.
    """
    token = new_nonce()
    outcomes: list[bool | None] = [None] * len(entries)
    left = list(range(len(entries)))
    for attempt in range(_ATTEMPTS):
        wanted = [entries[index] for index in left]
        count: int | None = None
        refused = False
        try:
            count = await _update(collection, wanted, token, untouched=untouched)
        except PyMongoError as error:
            refused = isinstance(error, OperationFailure) and fallbacks.switch(operation, error)
            if not refused and not errors.is_unknown(error):
                raise
        if count == len(wanted):
            settled: list[bool | None] = [True] * len(wanted)
        else:
            # What an earlier attempt has done, or still does, would make the count misleading.
            settled = await _settle(collection, wanted, token, count if attempt == 0 else None)
        if refused:  # and not lost, so that the token would show
            settled = [outcome is True for outcome in settled]
        known = count is not None or refused
        for index, outcome in zip(left, settled, strict=True):
            outcomes[index] = outcome if known or outcome else None
        if known:
            break
        # Not applied yet is no certainty after a lost connection; the same write once more makes it one.
        left = [index for index, outcome in zip(left, settled, strict=True) if outcome is False]
        if not left:
            break
    return outcomes


async def _update(collection: Collection, entries: Sequence[Guarded], token: str, *, untouched: bool) -> int:
    ids = [entry.id for entry in entries]
    guard: dict[str, Any] = {"$eq": ["$nonce", at_id(ids, [entry.nonce for entry in entries])]}
    if untouched:
        guard = {"$and": [guard, {"$eq": [f"${documents.PROMISE}", "$nonce"]}]}
    result = await collection.update_many({"_id": {"$in": ids}, "$expr": guard}, _changes(ids, entries, token))
    return result.matched_count


def _changes(ids: Sequence[str], entries: Sequence[Guarded], token: str) -> Mapping[str, Any] | list[dict[str, Any]]:
    first = entries[0].changes
    # Payloads would have to be compared with more care than Python takes, to which 1, 1.0 and True are the same.
    if "payload" not in first and all(entry.changes == first for entry in entries):
        return {"$set": {**first, _TOKEN: token}}
    return merge_by_id(ids, [{**entry.changes, _TOKEN: token} for entry in entries])


async def _settle(
    collection: Collection, entries: Sequence[Guarded], token: str, count: int | None
) -> list[bool | None]:
    """Find out by reading which entries were applied, given how many were, if that is known.

    A task that shows the token was written, one that still has its nonce was not. One that shows neither was changed
    by others, before us or after us: then the count may tell, and else nothing does.
    """
    majority = collection.with_options(read_concern=ReadConcern("majority"))
    found = {
        document["_id"]: document
        async for raw in majority.find({"_id": {"$in": [entry.id for entry in entries]}}, {"nonce": 1, _TOKEN: 1})
        for document in [documents.fields(raw)]
    }
    outcomes: list[bool | None] = []
    for entry in entries:
        document = found.get(entry.id, {})
        if document.get(_TOKEN) == token:
            outcomes.append(True)
        else:
            outcomes.append(False if document.get("nonce") == entry.nonce else None)
    certain, doubtful = outcomes.count(True), outcomes.count(None)
    if count in (certain, certain + doubtful):
        return [count != certain if outcome is None else outcome for outcome in outcomes]
    return outcomes
