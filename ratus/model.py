"""The model: plain structs that encode as the JSON of the REST API.

Times are aware `datetime` in UTC with whole milliseconds, durations `timedelta` with whole milliseconds, and
payloads compact JSON text in a `msgspec.Raw`, which may be a part of the message that they came in.
"""

from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct, field

T = TypeVar("T")

# msgspec decodes no Raw in a union; where there is no payload, the field is left out, and has its default.
if TYPE_CHECKING:
    Payload: TypeAlias = Raw | None
else:
    Payload = Raw


class TaskState(IntEnum):
    """State of a task, with the numbers of REST and of the storage."""

    PENDING = 0
    ACTIVE = 1
    COMPLETED = 2
    ARCHIVED = 3


class Task(Struct, kw_only=True, omit_defaults=True):
    """A task as it is stored. Empty fields are left out of its JSON, except the first four."""

    id: str = field(name="_id")
    topic: str
    state: int
    nonce: str
    producer: str = ""
    consumer: str = ""
    produced: datetime
    scheduled: datetime
    consumed: datetime | None = None
    deadline: datetime | None = None
    payload: Payload = None


class TaskInput(Struct, kw_only=True):
    """A task as a client gives it: whatever is None or empty gets its default."""

    id: str = ""
    topic: str = ""
    state: int | None = None
    nonce: str = ""
    producer: str = ""
    consumer: str = ""
    produced: datetime | None = None
    scheduled: datetime | None = None
    consumed: datetime | None = None
    deadline: datetime | None = None
    payload: bytes | None = None  # JSON text, not checked yet
    defer: timedelta | None = None


class Promise(Struct, kw_only=True, omit_defaults=True):
    """A claim on an active task. `timeout` is read on input only; `deadline` wins over it."""

    id: str = field(name="_id", default="")
    consumer: str = ""
    deadline: datetime | None = None
    timeout: timedelta | None = None


class Grant(Struct, frozen=True):
    """What a promise sets on the task that it claims; `request` names the claim, if it can be repeated."""

    nonce: str
    consumer: str
    consumed: datetime
    deadline: datetime
    request: str = ""


class Commit(Struct, kw_only=True, omit_defaults=True):
    """Updates that acknowledge the task `id`; None and empty leave a field as it is, but `state` completes.

    Given by a client, the payload is unchecked JSON text and `defer` may be set; checked by the rules, `state`
    is set, the payload is compact and `defer` is gone.
    """

    id: str = ""
    nonce: str = ""
    topic: str = ""
    state: int | None = None
    scheduled: datetime | None = None
    payload: Payload = None
    defer: timedelta | None = None


class Extension(Struct, kw_only=True):
    """A new deadline for the promise on task `id` that has this nonce."""

    id: str = ""
    nonce: str = ""
    deadline: datetime | None = None
    timeout: timedelta | None = None


class Hold(Struct, frozen=True):
    """A promise as its holder knows it: the task and the nonce."""

    id: str
    nonce: str


class ClaimRequest(Struct, kw_only=True):
    """A claim on the next `limit` due tasks of a topic; waits up to `wait` for the first."""

    topic: str
    consumer: str = ""
    deadline: datetime | None = None
    timeout: timedelta | None = None
    limit: int = 0
    wait: timedelta | None = None
    request_id: str = ""


class PollRequest(Struct, kw_only=True):
    """What a streaming consumer wants to be delivered; zero and None mean the default."""

    topics: list[str]
    consumer: str = ""
    timeout: timedelta | None = None
    max_in_flight: int = 0
    max_bytes: int = 0
    release_on_close: bool = False
    heartbeat: timedelta | None = None


class Topic(Struct):
    """A topic and the number of its tasks."""

    name: str
    count: int


class TopicStats(Struct, kw_only=True):
    """How a topic is doing."""

    pending: int = 0
    active: int = 0
    completed: int = 0
    archived: int = 0
    due: int = 0
    oldest_due: datetime | None = None
    next_scheduled: datetime | None = None
    waiting_consumers: int = 0


class PageRequest(Struct, kw_only=True):
    """A page of a list: at most `limit` items (0: the default) after `token`, or after skipping `offset`."""

    limit: int = 0
    offset: int = 0
    token: str = ""


class Page(Struct, Generic[T]):
    """Some items of a list, and the token of the next page (empty when there is none)."""

    items: list[T]
    next_token: str = ""


class Updated(Struct):
    """What an insert or upsert has done; `existing_ids` are the tasks that were there before."""

    created: int
    updated: int
    existing_ids: list[str] = []


class ServerInfo(Struct):
    """Facts about the server."""

    version: str
    engine: str
    time: datetime
    uptime: timedelta


class Outcome(IntEnum):
    """How a check has ended; the numbers are those of protobuf."""

    OK = 1
    WARNING = 2
    FAILED = 3


class Check(Struct, frozen=True):
    """Something that was looked at: what it was, how it is, and one line that says what was found."""

    name: str
    outcome: Outcome
    detail: str


def raw(payload: Any) -> Raw:
    """The compact JSON of a value."""
    return Raw(msgspec.json.encode(payload))
