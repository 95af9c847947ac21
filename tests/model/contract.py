"""What the contract says of calls: defaults, claims that can be repeated, and pages, on top of the model's tasks."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Raw, json

from ratus.model import ClaimRequest, Commit, Extension, Grant, Promise, Task, TaskInput, Updated
from tests.model.draws import MANY_BYTES
from tests.model.model import COMPLETED, PENDING, Model

TIMEOUT = timedelta(minutes=10)  # unless a promise has another
REFUSED = "BadRequest"
EXISTS = "TaskExists"

_NONCE = re.compile(r"[A-Za-z0-9]{16}")


def stored(given: TaskInput, now: datetime) -> Task:
    """The task that is stored for what a client gives."""
    return Task(
        id=given.id,
        topic=given.topic,
        state=given.state or PENDING,
        nonce=given.nonce,
        producer=given.producer,
        consumer=given.consumer,
        produced=given.produced or now,
        scheduled=given.scheduled or now + (given.defer or timedelta(0)),
        consumed=given.consumed,
        deadline=given.deadline,
        payload=_payload(given.payload),
    )


def applied(given: Commit, now: datetime) -> Commit:
    """A commit with what it leaves open."""
    scheduled = given.scheduled or (None if given.defer is None else now + given.defer)
    state = COMPLETED if given.state is None else given.state
    payload = None if given.payload is None else _payload(bytes(given.payload))
    return Commit(id=given.id, nonce=given.nonce, topic=given.topic, state=state, scheduled=scheduled, payload=payload)


def end_of(given: Promise | ClaimRequest | Extension, now: datetime) -> datetime:
    """When a promise ends."""
    return given.deadline or now + (TIMEOUT if given.timeout is None else given.timeout)


def _payload(text: bytes | None) -> Raw | None:
    return None if text is None or text == b"null" else Raw(json.format(text, indent=-1))


class Contract(Model):
    """The tasks, and what each call makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self._nonces: set[str] = set()

    def insert_given(self, given: Sequence[TaskInput], now: datetime) -> Updated:
        """Store what is new, and name the others."""
        before = [task.id for task in given if task.id in self.tasks]
        created = self.insert([stored(task, now) for task in given])
        return Updated(sum(created), 0, list(dict.fromkeys(before)))

    def upsert_given(self, given: Sequence[TaskInput], now: datetime) -> Updated:
        """Store or replace."""
        before = [task.id for task in given if task.id in self.tasks]
        created = len(self.upsert([stored(task, now) for task in given]))
        return Updated(created, len(given) - created, list(dict.fromkeys(before)))

    def check_promised(self, given: Promise, now: datetime, result: Task | str, *, force: bool) -> None:
        """Whether a promise on a named task can have come to this; it is made then."""
        nonce = self._fresh(result.nonce) if isinstance(result, Task) else ""
        assert result == self.promise(given.id, Grant(nonce, given.consumer, now, end_of(given, now)), force=force)

    def check_claimed(self, request: ClaimRequest, now: datetime, result: Sequence[Task] | str) -> None:
        """Whether a claim can have come to this; it is made then."""
        name = ""
        if request.request_id:
            identity = repr((request.topic, request.consumer, request.request_id))
            name = identity + repr((request.limit or 1, request.timeout, request.deadline))
            promised = self.requested(identity)
            held = {id: other for id, other in promised.items() if (self.tasks[id].deadline or now) > now}
            if set(held.values()) - {name}:
                assert result == REFUSED, "repeated with other parameters"
                return
            if held:
                assert not isinstance(result, str)
                assert {task.id: task for task in result} == {id: self.tasks[id] for id in held}, "not the same again"
                assert len(result) == len(held)
                return
        assert not isinstance(result, str), result
        assert len(result) <= (request.limit or 1), "more than were asked for"
        nonces = [self._fresh(task.nonce) for task in result]
        nonces += [""] * ((request.limit or 1) - len(nonces))
        grants = [Grant(nonce, request.consumer, now, end_of(request, now), name) for nonce in nonces]
        self.check_claim(request.topic, grants, MANY_BYTES, result)

    def _fresh(self, nonce: str) -> str:
        assert _NONCE.fullmatch(nonce), nonce
        assert nonce not in self._nonces, "not a nonce of its own"
        self._nonces.add(nonce)
        return nonce
