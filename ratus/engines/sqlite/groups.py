"""Group commit: calls that wait at the same time run in one transaction."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import apsw

from ratus.engines.sqlite.schema import Connection
from ratus.errors import StorageUnavailable, TooLarge

In = TypeVar("In")
Out = TypeVar("Out")
Operation = Callable[[Connection, Sequence[In]], Sequence[Out]]
Answer = Sequence[Any] | BaseException

_log: Final = logging.getLogger(__name__)
_STORAGE_FAULTS: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.InterruptError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)


class Call(NamedTuple):
    """An operation and the entries that it is to be run on; it answers one result for each, in order."""

    operation: Operation[Any, Any]
    entries: Sequence[Any]


def run(db: Connection, calls: Sequence[Call], *, writes: bool) -> list[Answer]:
    """Run calls in one transaction; the results of each, or the error that it has failed with.

    Calls of the same operation become one batch. If that fails, the calls run again one by one, so that one failing
    call fails alone.
    """
    try:
        return _transact(db, calls, writes=writes)
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is the answer to somebody)
        if len(calls) > 1:
            return [answer for call in calls for answer in run(db, [call], writes=writes)]
        return [_translate(error)]


def _transact(db: Connection, calls: Sequence[Call], *, writes: bool) -> list[Answer]:
    batches: dict[Operation[Any, Any], list[int]] = {}
    for index, call in enumerate(calls):
        batches.setdefault(call.operation, []).append(index)
    answers: list[Answer] = [()] * len(calls)
    if db.in_transaction:  # the end of the one before has failed
        db.execute("ROLLBACK")
    db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        for operation, indices in batches.items():
            if len(indices) == 1:
                answers[indices[0]] = operation(db, calls[indices[0]].entries)
                continue
            results = operation(db, [entry for index in indices for entry in calls[index].entries])
            position = 0
            for index in indices:
                end = position + len(calls[index].entries)
                answers[index] = results[position:end]
                position = end
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return answers


def _translate(error: BaseException) -> BaseException:
    if isinstance(error, apsw.TooBigError):
        return TooLarge("the answer exceeds what SQLite can hold")
    if isinstance(error, _STORAGE_FAULTS):
        _log.error("SQLite: %s: %s", type(error).__name__, error)
        return StorageUnavailable("the database file cannot be used now")
    return error
