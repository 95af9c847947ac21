"""The rules of the queue: defaults, validation and state transitions, for both faces and all engines."""

import os
import string
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec

from ratus import payload
from ratus.config import (
    DEFAULT_TIMEOUT,
    MAX_BATCH,
    MAX_CLAIM,
    MAX_HEARTBEAT,
    MAX_IN_FLIGHT,
    MAX_NAME_BYTES,
    MAX_WAIT,
    MIN_HEARTBEAT,
    Limits,
)
from ratus.errors import BadRequest, NonceMismatch, RatusError, TooLarge
from ratus.model import (
    ClaimRequest,
    Commit,
    Extension,
    Grant,
    Hold,
    PageRequest,
    PollRequest,
    Promise,
    Task,
    TaskInput,
    TaskState,
)
from ratus.times import MAX_TIME, after

In = TypeVar("In")
Out = TypeVar("Out")

DEFAULT_PAGE: Final = 10
NONCE_LENGTH: Final = 16
_ALPHABET: Final = string.ascii_letters + string.digits
_STATES: Final = frozenset(TaskState)
_ACTIVE: Final = TaskState.ACTIVE.value
_COMPLETED: Final = TaskState.COMPLETED.value
_LETTERS: Final = bytes(ord(_ALPHABET[byte % len(_ALPHABET)]) for byte in range(256))
_UNFAIR: Final = bytes(range(256 // len(_ALPHABET) * len(_ALPHABET), 256))  # bytes that would favour some letters
_RANDOM_BYTES: Final = 4096  # that are asked for at once


def _nonces() -> Iterator[str]:
    while True:
        letters = os.urandom(_RANDOM_BYTES).translate(_LETTERS, _UNFAIR).decode()
        for end in range(NONCE_LENGTH, len(letters) + 1, NONCE_LENGTH):
            yield letters[end - NONCE_LENGTH : end]


_fresh_nonces: Final = _nonces()


def new_nonce() -> str:
    """16 characters of `A-Za-z0-9` from a cryptographic source. Not for several threads at once."""
    return next(_fresh_nonces)


def check_name(name: str, field: str) -> str:
    """A name of at most 1 KiB of UTF-8 without NUL, or nothing at all; else BadRequest."""
    if not name.isascii() or len(name) > MAX_NAME_BYTES or "\0" in name:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise BadRequest("not UTF-8", field=field) from None
        if size > MAX_NAME_BYTES:
            raise BadRequest(f"{size} bytes exceed the maximum of {MAX_NAME_BYTES}", field=field)
        if "\0" in name:
            raise BadRequest("contains NUL", field=field)
    return name


def check_id(name: str, field: str = "id") -> str:
    """A task ID, which must not be empty."""
    if not name:
        raise BadRequest("task ID must not be empty", field=field, bare=True)
    return check_name(name, field)


def check_topic(name: str, field: str = "topic") -> str:
    """The name of a topic, which must not be empty."""
    if not name:
        raise BadRequest("topic must not be empty", field=field, bare=True)
    return check_name(name, field)


def check_state(state: int, what: str = "state") -> int:
    """A state within range; `what` is how the message calls it."""
    if state not in _STATES:
        raise BadRequest(f"invalid {what} {state}", field="state", bare=True)
    return int(state)


def check_batch(size: int, field: str) -> None:
    """A batch within the bound."""
    if size > MAX_BATCH:
        raise BadRequest(f"{size} entries exceed the maximum of {MAX_BATCH}", field=field)


def each(entries: Sequence[In], field: str, rule: Callable[[In], Out]) -> list[Out]:
    """Apply a rule to every entry of a batch; an error names the entry in its field, such as `tasks[3].payload`."""
    check_batch(len(entries), field)
    index, out = 0, []
    try:
        for index, entry in enumerate(entries):  # noqa: B007 (the handlers read the index)
            out.append(rule(entry))
    except BadRequest as error:
        raise error.within(f"{field}[{index}]") from None
    except TooLarge as error:
        raise TooLarge(f"{field}[{index}].{error.detail}") from None
    return out


def new_task(given: TaskInput, now: datetime, limits: Limits) -> Task:
    """The task to store for what a client gives, with its defaults."""
    if given.scheduled is not None:
        scheduled = given.scheduled
    elif given.defer is not None:
        scheduled = after(now, given.defer, "defer")
    else:
        scheduled = now
    return Task(
        id=check_id(given.id),
        topic=check_topic(given.topic),
        state=0 if given.state is None else check_state(given.state),
        nonce=given.nonce and check_name(given.nonce, "nonce"),
        producer=given.producer and check_name(given.producer, "producer"),
        consumer=given.consumer and check_name(given.consumer, "consumer"),
        produced=given.produced or now,
        scheduled=scheduled,
        consumed=given.consumed,
        deadline=given.deadline,
        payload=payload.check(given.payload, limits.payload_bytes),
    )


def end_of_promise(deadline: datetime | None, timeout: timedelta | None, now: datetime) -> datetime:
    """When a promise ends that is made now."""
    return deadline or after(now, DEFAULT_TIMEOUT if timeout is None else timeout, "timeout")


def grant(
    consumer: str, deadline: datetime | None, timeout: timedelta | None, now: datetime, request: str = ""
) -> Grant:
    """What a promise that is made now sets on its task; the nonce is fresh.

    That it ends within the years is checked where it comes in; what has waited since ends with the last of them.
    """
    try:
        end = end_of_promise(deadline, timeout, now)
    except BadRequest:
        end = MAX_TIME
    return Grant(new_nonce(), consumer, now, end, request)


def check_promise(promise: Promise) -> Promise:
    """A promise on a named task."""
    check_id(promise.id)
    check_name(promise.consumer, "consumer")
    return promise


def check_claim(request: ClaimRequest) -> ClaimRequest:
    """A claim within the bounds, its limit and wait set."""
    check_topic(request.topic)
    check_name(request.consumer, "consumer")
    check_name(request.request_id, "request_id")
    if not 0 <= request.limit <= MAX_CLAIM:
        raise BadRequest(f"{request.limit} is not within 0 and the maximum of {MAX_CLAIM}", field="limit")
    wait = request.wait or timedelta(0)
    if not timedelta(0) <= wait <= MAX_WAIT:
        raise BadRequest("must not be negative nor exceed the maximum of 10m", field="wait")
    return msgspec.structs.replace(request, limit=request.limit or 1, wait=wait)


def check_window(max_in_flight: int, max_bytes: int) -> tuple[int, int]:
    """A window within the bounds; of at least one task."""
    if not 0 <= max_in_flight <= MAX_IN_FLIGHT:
        raise BadRequest(f"{max_in_flight} is not within 0 and the maximum of {MAX_IN_FLIGHT}", field="max_in_flight")
    if max_bytes < 0:
        raise BadRequest("must not be negative", field="max_bytes")
    return max_in_flight or 1, max_bytes


def check_poll(request: PollRequest) -> PollRequest:
    """A stream within the bounds, its window and timeout set."""
    if not request.topics:
        raise BadRequest("must not be empty", field="topics")
    for index, topic in enumerate(request.topics):
        check_topic(topic, f"topics[{index}]")
    check_name(request.consumer, "consumer")
    timeout = DEFAULT_TIMEOUT if request.timeout is None else request.timeout
    if timeout <= timedelta(0):
        raise BadRequest("must be positive", field="timeout")
    max_in_flight, _ = check_window(request.max_in_flight, request.max_bytes)
    if request.heartbeat is not None and not MIN_HEARTBEAT <= request.heartbeat <= MAX_HEARTBEAT:
        raise BadRequest("is not within 1s and 5m", field="heartbeat")
    return msgspec.structs.replace(request, max_in_flight=max_in_flight, timeout=timeout)


def check_commit(given: Commit, now: datetime, limits: Limits) -> Commit:
    """A commit that is ready to be applied: its state is set, its payload compact, `defer` turned into `scheduled`."""
    scheduled = given.scheduled
    if scheduled is None and given.defer is not None:
        scheduled = after(now, given.defer, "defer")
    return Commit(
        id=check_id(given.id),
        nonce=given.nonce and check_name(given.nonce, "nonce"),
        topic=given.topic and check_name(given.topic, "topic"),
        state=_COMPLETED if given.state is None else check_state(given.state, "target state"),
        scheduled=scheduled,
        payload=payload.check(None if given.payload is None else bytes(given.payload), limits.payload_bytes),
    )


def check_extension(given: Extension, now: datetime) -> Extension:
    """An extension with its new deadline."""
    if not given.nonce:
        raise BadRequest("must not be empty", field="nonce")
    return Extension(
        id=check_id(given.id),
        nonce=check_name(given.nonce, "nonce"),
        deadline=end_of_promise(given.deadline, given.timeout, now),
    )


def check_hold(given: Hold) -> Hold:
    """A promise to be released."""
    check_id(given.id)
    if not given.nonce:
        raise BadRequest("must not be empty", field="nonce")
    check_name(given.nonce, "nonce")
    return given


def check_page(page: PageRequest, limits: Limits) -> PageRequest:
    """A page within the bounds, its limit set."""
    if page.limit > limits.page_limit:
        raise BadRequest(f"exceeded maximum allowed limit of {limits.page_limit}", field="limit", bare=True)
    if page.limit < 0:
        raise BadRequest("limit must not be negative", field="limit", bare=True)
    if page.offset > limits.page_offset:
        raise BadRequest(f"exceeded maximum allowed offset of {limits.page_offset}", field="offset", bare=True)
    if page.offset < 0:
        raise BadRequest("offset must not be negative", field="offset", bare=True)
    return PageRequest(limit=page.limit or min(DEFAULT_PAGE, limits.page_limit), offset=page.offset, token=page.token)


def stamped(grant: Grant, task: Task) -> Grant:
    """The grant, made no earlier than its task was due: calls that share a claim share the time of the last one."""
    return grant if task.scheduled <= grant.consumed else msgspec.structs.replace(grant, consumed=task.scheduled)


def claimed(task: Task, grant: Grant) -> Task:
    """The task once a promise has been made on it."""
    return msgspec.structs.replace(
        task,
        state=_ACTIVE,
        nonce=grant.nonce,
        consumer=grant.consumer,
        consumed=grant.consumed,
        deadline=grant.deadline,
    )


def committed(task: Task, commit: Commit) -> Task | RatusError:
    """The task once a checked commit has been applied to it, or why it cannot be."""
    if commit.nonce and commit.nonce != task.nonce:
        return NonceMismatch()
    assert commit.state is not None
    assert not isinstance(commit.payload, bytes)
    return msgspec.structs.replace(
        task,
        state=commit.state,
        nonce="",
        topic=commit.topic or task.topic,
        scheduled=commit.scheduled or task.scheduled,
        payload=task.payload if commit.payload is None else commit.payload,
    )
