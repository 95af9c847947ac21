"""What the errors of pymongo mean to us, in one place."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from ratus.errors import RatusError, StorageUnavailable, TooLarge

DUPLICATE_KEY: Final = 11000
BAD_HINT: Final = 2

# Server errors that pass, by number, since one number has other names in other versions.
_PASSING: Final = frozenset(
    {
        *(6, 7, 89, 202, 9001),  # connections between servers
        *(18,),  # credentials that the server does not take (yet)
        *(24, 46, 50, 112, 175, 262),  # locks, conflicts and time limits
        *(43, 246, 251),  # cursors, snapshots and transactions that are gone
        *(63, 150, 13388),  # chunks that move
        *(64, 79, 100),  # write concerns
        *(91, 189, 10058, 10107, 11600, 11601, 11602, 13435, 13436),  # shutdowns and elections
        *(133, 134),  # no member to read from
        *(280, 286),  # change streams that cannot go on
    }
)
_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_PASSING_LABELS: Final = ("RetryableWriteError", "TransientTransactionError", "NetworkError")


def translate(error: PyMongoError) -> RatusError | None:
    """The error of ours, or None for what only a bug can cause."""
    if isinstance(error, DocumentTooLarge):
        return TooLarge("the task does not fit into a document of MongoDB")
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WriteConcernError | ConfigurationError):
        return StorageUnavailable(f"MongoDB: {line(error)}")  # a ConfigurationError that comes so late is about DNS
    if isinstance(error, OperationFailure):
        if codes(error) & _TOO_LARGE:
            return TooLarge("the task does not fit into a document of MongoDB")
        if codes(error) & _PASSING or any(map(error.has_error_label, _PASSING_LABELS)) or _concern_failed(error):
            return StorageUnavailable(f"MongoDB: {line(error)}")
    return None


def is_unavailable(error: PyMongoError) -> bool:
    """Whether the storage cannot be reached, or the outcome of a write is unknown."""
    return isinstance(translate(error), StorageUnavailable)


def is_unknown(error: PyMongoError) -> bool:
    """Whether what was asked may have been done in spite of the error, now or in a moment."""
    return is_unavailable(error) and not isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError)


@contextmanager
def translated() -> Iterator[None]:
    """Raise our errors in place of those of pymongo."""
    try:
        yield
    except PyMongoError as error:
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


def codes(error: PyMongoError) -> set[int]:
    """The codes of a server error, those of the single writes of a batch included."""
    if isinstance(error, BulkWriteError):  # its own code says no more than that it is one
        return {entry["code"] for entry in [*write_errors(error), *error.details["writeConcernErrors"]]}
    return {error.code} if isinstance(error, OperationFailure) and error.code is not None else set()


def write_errors(error: BulkWriteError) -> Sequence[dict[str, Any]]:
    """The errors of the single writes of a batch, each with its `index` and `code`."""
    entries: Sequence[dict[str, Any]] = error.details["writeErrors"]
    return entries


def _concern_failed(error: OperationFailure) -> bool:
    return isinstance(error, BulkWriteError) and bool(error.details["writeConcernErrors"])


def line(error: PyMongoError) -> str:
    """What the error says, without the description of the topology or the answer of the server."""
    return str(error).partition(", Timeout:")[0].partition(", full error:")[0]
