"""The JSON form of a task as a client gives it, over REST and in files.

`null` counts as absent everywhere and an empty string in every field but the payload; unknown fields are ignored.
Names, states, bounds and payloads are checked by the rules.
"""

from msgspec import Raw, Struct, field

from ratus.model import TaskInput
from ratus.times import parse_duration, parse_time


class TaskBody(Struct, kw_only=True):
    """A task to insert or upsert."""

    id: str | None = field(name="_id", default=None)
    topic: str | None = None
    state: int | None = None
    nonce: str | None = None
    producer: str | None = None
    consumer: str | None = None
    produced: str | None = None
    scheduled: str | None = None
    consumed: str | None = None
    deadline: str | None = None
    payload: Raw = Raw()
    defer: str | None = None


def task_input(given: TaskBody, topic: str, id: str) -> TaskInput:
    """What a form says, on the path or in the file of this topic; BadRequest for a malformed time or duration."""
    return TaskInput(
        id=id,
        topic=given.topic or topic,
        state=given.state,
        nonce=given.nonce or "",
        producer=given.producer or "",
        consumer=given.consumer or "",
        produced=parse_time(given.produced, "produced") if given.produced else None,
        scheduled=parse_time(given.scheduled, "scheduled") if given.scheduled else None,
        consumed=parse_time(given.consumed, "consumed") if given.consumed else None,
        deadline=parse_time(given.deadline, "deadline") if given.deadline else None,
        payload=bytes(given.payload) or None,
        defer=parse_duration(given.defer, "defer") if given.defer else None,
    )
