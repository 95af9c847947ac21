"""The indexes of the original, with its names, and ours, which the original does not mind."""

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from ratus.engines.mongodb import errors
from ratus.engines.mongodb.fallback import Collection

# Only with this one hinted is the order of claims certain and their cost independent of what the planner tries.
CLAIM_INDEX: Final = "topic_1_scheduled_1"
ACTIVE_INDEX: Final = "topic_1"
TOPIC_INDEX: Final = "topic_1_produced_1"  # ours: names of topics, numbers of tasks; grows at its ends
ARCHIVED_INDEX: Final = "topic_1_state_1"  # ours
COUNTED: Final = frozenset({CLAIM_INDEX, ACTIVE_INDEX, ARCHIVED_INDEX, TOPIC_INDEX})
_TTL_INDEX: Final = "consumed_1"
_MAX_TTL: Final = 2**31 - 1  # seconds
_CONFLICTS: Final = frozenset({85, 86})  # an index of this name, or of these keys, is there with other options

_log = logging.getLogger(__name__)


def models(retention: timedelta) -> list[IndexModel]:
    """The indexes of the collection."""
    return [
        IndexModel([("topic", "hashed")], name="topic_hashed"),
        IndexModel([("topic", 1), ("scheduled", 1)], name=CLAIM_INDEX, partialFilterExpression={"state": 0}),
        IndexModel([("deadline", 1)], name="deadline_1", partialFilterExpression={"state": 1}),
        IndexModel([("topic", 1)], name=ACTIVE_INDEX, partialFilterExpression={"state": 1}),
        IndexModel(
            [("consumed", 1)],
            name=_TTL_INDEX,
            partialFilterExpression={"state": 2},
            expireAfterSeconds=_seconds(retention),
        ),
        IndexModel([("topic", 1), ("produced", 1)], name=TOPIC_INDEX),
        IndexModel([("topic", 1), ("state", 1)], name=ARCHIVED_INDEX, partialFilterExpression={"state": 3}),
    ]


async def ensure_requests(collection: Collection) -> None:
    """Create the index of ours that finds the tasks of a request; it holds none but those that have one."""
    await collection.create_index(
        "request.name",
        name="request.name_1",
        partialFilterExpression={"state": 1, "request.name": {"$exists": True}},
    )


async def ensure(collection: Collection, retention: timedelta) -> frozenset[str]:
    """Create what is missing and adjust the retention period; the indexes that are as they should be.

    An index that somebody made differently is left as it is, and said in the log.
    """
    await _adjust_retention(collection, retention)
    try:
        return frozenset(await collection.create_indexes(models(retention)))
    except OperationFailure as error:
        if error.code not in _CONFLICTS:
            raise
    return await _ensure_singly(collection, retention)


async def _ensure_singly(collection: Collection, retention: timedelta) -> frozenset[str]:
    right: set[str] = set()
    for model in models(retention):
        try:
            right.update(await collection.create_indexes([model]))
        except OperationFailure as error:
            if error.code not in _CONFLICTS:
                raise
            name = model.document["name"]
            _log.warning("MongoDB: index %s is not as it should be, and left so: %s", name, errors.line(error))
    return frozenset(right)


async def _adjust_retention(collection: Collection, retention: timedelta) -> None:
    existing: Mapping[str, Mapping[str, Any]] = await collection.index_information()
    ttl = existing.get(_TTL_INDEX)
    if ttl is not None and ttl.get("expireAfterSeconds") != _seconds(retention):
        await collection.database.command(
            "collMod", collection.name, index={"name": _TTL_INDEX, "expireAfterSeconds": _seconds(retention)}
        )


def _seconds(retention: timedelta) -> int:
    return min(math.ceil(retention.total_seconds()), _MAX_TTL)
