"""What users write, turned into what the model has."""

import hashlib
import secrets
import time
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from ratus.client import payloads
from ratus.errors import BadRequest
from ratus.model import TaskInput
from ratus.times import parse_duration

Duration: TypeAlias = str | timedelta | float
"""A duration: `30s` or `1h30m` as Go writes it, a `timedelta`, or a number of seconds."""


def to_duration(duration: Duration, field: str = "") -> timedelta:
    """The `timedelta` of a duration. Raises BadRequest."""
    if isinstance(duration, str):
        return parse_duration(duration, field)
    if isinstance(duration, timedelta):
        return duration
    try:
        return timedelta(seconds=duration)
    except (OverflowError, ValueError):
        raise BadRequest(f"{duration} s is no duration", field=field) from None


def to_time(moment: datetime, field: str) -> datetime:
    """A moment that has a time zone. Raises BadRequest."""
    if moment.tzinfo is None:
        raise BadRequest("a time needs a time zone, such as datetime.now(UTC)", field=field)
    return moment


def new_task(
    topic: str,
    payload: Any = None,
    *,
    id: str = "",
    defer: Duration | None = None,
    scheduled: datetime | None = None,
    producer: str = "",
) -> TaskInput:
    """A task to insert.

    Args:
        topic: The topic whose consumers are to execute it.
        payload: Any value with a JSON: dict, list, text, number, `msgspec.Struct`, dataclass, pydantic model.
        id: Its ID, unique over all topics; made up if it is empty.
        defer: How long from now it becomes due, such as `"5s"`.
        scheduled: When it becomes due; wins over `defer`. By default now.
        producer: Who made it.

    Raises:
        BadRequest: for a malformed duration or a time without a time zone.
        PayloadError: for a payload without JSON.
    """
    return TaskInput(
        id=id or new_id(),
        topic=topic,
        payload=payloads.encode(payload),
        defer=None if defer is None else to_duration(defer, "defer"),
        scheduled=None if scheduled is None else to_time(scheduled, "scheduled"),
        producer=producer,
    )


def new_id() -> str:
    """An ID that nobody else makes up; those made later sort after those made earlier."""
    return f"{time.time_ns() // 10**6:012x}{secrets.token_hex(10)}"


def task_id(*parts: Any) -> str:
    """The same ID for the same parts, in every process, so that what they stand for is inserted once.

    The parts are any values with a JSON; the order of keys does not matter. Raises PayloadError for others.

        await queue.insert("fetch", {"url": url}, id=ratus.task_id("fetch", url), exist_ok=True)
    """
    return hashlib.blake2b(payloads.encode_sorted(parts), digest_size=16).hexdigest()
