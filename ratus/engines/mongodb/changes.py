"""What others have made pending, as a change stream tells it."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from pymongo.errors import OperationFailure

from ratus import times
from ratus.engines.base import Heard
from ratus.engines.mongodb import documents, errors
from ratus.engines.mongodb.fallback import Collection

_NO_CHANGE_STREAMS: Final = frozenset({13, 40573})  # not authorized, a standalone server
_AWAIT_MS: Final = 10_000  # between the server's answers when there is nothing to tell, at most

# The first stage needs no more than the event, so that the server looks up the tasks of what passes it only.
_BECAME_PENDING: Final[list[Mapping[str, Any]]] = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace"]}},
                {"updateDescription.updatedFields.state": 0},
                {"updateDescription.updatedFields.scheduled": {"$exists": True}},
                {"updateDescription.updatedFields.topic": {"$exists": True}},
            ]
        }
    },
    {"$match": {"fullDocument.state": 0}},
    {"$project": {"fullDocument.topic": 1, "fullDocument.scheduled": 1}},
]

_log = logging.getLogger(__name__)


async def watch(collection: Collection, heard: Heard) -> None:
    """Tell what becomes pending, through this process too, until cancelled; return if the server cannot tell."""
    plain = collection.with_options(codec_options=documents.PLAIN)
    patience = plain.database.client.options.pool_options.socket_timeout
    await_ms = _AWAIT_MS if patience is None else min(_AWAIT_MS, int(patience * 1000 / 2))
    while True:  # a stream ends when its collection is dropped
        try:
            async with await plain.watch(
                _BECAME_PENDING, full_document="updateLookup", max_await_time_ms=await_ms
            ) as stream:
                heard(None, times.now())
                async for event in stream:
                    task = event["fullDocument"]
                    topic, scheduled = task.get("topic"), documents.moment(task.get("scheduled"))
                    if topic is not None and scheduled is not None:  # else no claim finds it either
                        heard(topic, scheduled)
        except OperationFailure as error:
            if error.code not in _NO_CHANGE_STREAMS:
                raise
            _log.info("MongoDB: no change stream: %s", errors.line(error))
            return
