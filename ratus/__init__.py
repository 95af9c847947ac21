"""Ratus: a durable task queue, its server and its client.

The names below are all that is public. What a program does not use is not loaded, so that the server does not carry
the client.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ratus.client.inputs import Duration, new_task, task_id
    from ratus.client.payloads import PayloadError, decode
    from ratus.client.queue import ClaimOptions, Queue, connect
    from ratus.client.retries import Retry
    from ratus.client.subscription import SubscribeOptions, Subscription
    from ratus.client.sync import SyncActiveTask, SyncQueue, SyncSubscription, connect_sync
    from ratus.client.task import ActiveTask, HeldTask
    from ratus.client.tls import TLS
    from ratus.client.worker import Worker, WorkerOptions
    from ratus.errors import (
        BadRequest,
        ClientClosed,
        Conflict,
        Draining,
        Internal,
        NonceMismatch,
        NotFound,
        RatusError,
        StorageUnavailable,
        TaskExists,
        TaskNotPending,
        TooLarge,
        TooMany,
        Unavailable,
        Unsupported,
    )
    from ratus.model import (
        ClaimRequest,
        Commit,
        Extension,
        Page,
        PageRequest,
        Promise,
        ServerInfo,
        Task,
        TaskInput,
        TaskState,
        Topic,
        TopicStats,
        Updated,
    )

__all__ = [
    "TLS",
    "ActiveTask",
    "BadRequest",
    "ClaimOptions",
    "ClaimRequest",
    "ClientClosed",
    "Commit",
    "Conflict",
    "Draining",
    "Duration",
    "Extension",
    "HeldTask",
    "Internal",
    "NonceMismatch",
    "NotFound",
    "Page",
    "PageRequest",
    "PayloadError",
    "Promise",
    "Queue",
    "RatusError",
    "Retry",
    "ServerInfo",
    "StorageUnavailable",
    "SubscribeOptions",
    "Subscription",
    "SyncActiveTask",
    "SyncQueue",
    "SyncSubscription",
    "Task",
    "TaskExists",
    "TaskInput",
    "TaskNotPending",
    "TaskState",
    "TooLarge",
    "TooMany",
    "Topic",
    "TopicStats",
    "Unavailable",
    "Unsupported",
    "Updated",
    "Worker",
    "WorkerOptions",
    "__version__",
    "connect",
    "connect_sync",
    "decode",
    "new_task",
    "task_id",
]

__version__ = version("ratus")

_MODULES: Final = (
    "ratus.errors",
    "ratus.model",
    "ratus.client.inputs",
    "ratus.client.payloads",
    "ratus.client.task",
    "ratus.client.subscription",
    "ratus.client.retries",
    "ratus.client.worker",
    "ratus.client.tls",
    "ratus.client.queue",
    "ratus.client.sync",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(import_module, _MODULES):
            if name in vars(module):
                return globals().setdefault(name, vars(module)[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
