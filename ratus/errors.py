"""The errors of Ratus; each face has one mapping of them.

    RatusError
    ├── BadRequest          malformed, or beyond a bound; names the field
    ├── NotFound            no such task, topic or promise
    ├── Conflict
    │   ├── TaskExists      a task with the same ID exists
    │   ├── TaskNotPending  the task to claim is not pending
    │   └── NonceMismatch   the nonce differs, or the promise is not held
    ├── TooLarge            the request or a payload
    ├── TooMany             waiters or streams
    ├── ClientClosed        the client went away
    ├── Unsupported         not with this engine
    ├── Unavailable
    │   ├── StorageUnavailable  the storage is unreachable, or the outcome of a write unknown
    │   └── Draining        the server shuts down
    └── Internal            anything else; says nothing to the client

`str(error)` is what both faces send: the kind, then the detail, such as `conflict: the task may have …`.
"""

from typing import ClassVar, Self


class RatusError(Exception):
    """Base of all errors that are answers to a call."""

    kind: ClassVar[str] = "internal server error"
    reason: ClassVar[str] = "INTERNAL"
    default: ClassVar[str] = ""  # the detail, unless one is given
    detail: str

    def __init__(self, detail: str = "") -> None:
        self.detail = detail = detail or self.default
        super().__init__(f"{self.kind}: {detail}" if detail else self.kind)


class BadRequest(RatusError):
    """The request is malformed or beyond a bound; nothing was changed.

    `field` is the path of the bad field, such as `tasks[3].payload`; it stands in front of the detail unless
    `bare` is set, which is for messages that clients of the original know word by word.
    """

    kind = "bad request"
    reason = "BAD_REQUEST"

    def __init__(self, description: str, *, field: str = "", bare: bool = False) -> None:
        self.description = description
        self.field = field
        self.bare = bare
        super().__init__(description if bare or not field else f"{field}: {description}")

    def within(self, parent: str) -> Self:
        """The same error, its field as seen from outside of `parent`."""
        field = f"{parent}.{self.field}" if self.field else parent
        return type(self)(self.description, field=field, bare=self.bare)


class NotFound(RatusError):
    """There is no such task, topic or promise."""

    kind = "not found"
    reason = "NOT_FOUND"


class Conflict(RatusError):
    """The state of the task does not allow the call."""

    kind = "conflict"


class TaskExists(Conflict):
    """A task with the same ID exists."""

    reason = "TASK_EXISTS"
    default = "a task with the same ID already exists"


class TaskNotPending(Conflict):
    """The task to claim is not pending."""

    reason = "TASK_NOT_PENDING"
    default = "the target task is not in pending state"


class NonceMismatch(Conflict):
    """The nonce is not the task's any more, or the promise is not held."""

    reason = "NONCE_MISMATCH"
    default = "the task may have been modified by others"


class TooLarge(RatusError):
    """The request or a payload is too large."""

    kind = "too large"
    reason = "TOO_LARGE"


class TooMany(RatusError):
    """There are too many waiters or streams."""

    kind = "too many"
    reason = "TOO_MANY"


class ClientClosed(RatusError):
    """The client went away before the answer."""

    kind = "client closed request"
    reason = "CLIENT_CLOSED"


class Unsupported(RatusError):
    """The engine of this server does not do that; the detail says what does."""

    kind = "not supported"
    reason = "UNSUPPORTED"


class Unavailable(RatusError):
    """The server cannot do it now; try again, here or elsewhere."""

    kind = "service unavailable"


class StorageUnavailable(Unavailable):
    """The storage is unreachable, or the outcome of a write is unknown."""

    reason = "STORAGE_UNAVAILABLE"


class Draining(Unavailable):
    """The server shuts down."""

    reason = "DRAINING"
    default = "connect elsewhere"


class Internal(RatusError):
    """A fault of the server; its log has the details."""


class StartError(Exception):
    """A start that cannot work; the message is the one line that the user sees."""
