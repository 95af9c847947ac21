"""Rows in and out, many in one step.

The GIL is released for every step of a statement, and a busy event loop makes the thread wait to get it back, so
statements move whole batches: rows come out as one row of JSON text, and go in as one list of VALUES.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Final, TypeVar

import apsw
import msgspec
from msgspec import Raw, Struct

from ratus.model import Task
from ratus.times import to_ms

Value = str | int | None
T = TypeVar("T")

CHUNK: Final = 256  # rows a statement, far below SQLite's bound on variables

INSERTED: Final = "seq, id, topic, state, nonce, producer, consumer, produced, scheduled, consumed, deadline, payload"


def _moment(column: str) -> str:
    """A time as msgspec takes it: seconds, and text where a double would not hold their milliseconds (from 2109 on)."""
    seconds = f"{column} / 1000.0"
    text = f"strftime('%Y-%m-%dT%H:%M:%fZ', {seconds}, 'unixepoch')"
    return f"CASE WHEN {column} BETWEEN 0 AND {2**42} THEN {seconds} ELSE {text} END"


_FIELDS: Final = "seq, id, topic, state, nonce, producer, consumer, " + ", ".join(
    map(_moment, ("produced", "scheduled", "consumed", "deadline"))
)
_WITH_PAYLOADS: Final = (
    f"SELECT json_group_array(json_array({_FIELDS})), '[' || group_concat(coalesce(payload, 'null')) || ']' FROM "
)
_WITHOUT_PAYLOADS: Final = f"SELECT json_group_array(json_array({_FIELDS})), NULL FROM "


class _Row(Struct, array_like=True):
    seq: int
    id: str
    topic: str
    state: int
    nonce: str
    producer: str
    consumer: str
    produced: datetime
    scheduled: datetime
    consumed: datetime | None
    deadline: datetime | None


_decode_rows: Final = msgspec.json.Decoder(list[_Row], strict=False).decode  # so that a number can be a time
_decode_payloads: Final = msgspec.json.Decoder(list[Raw]).decode
_NO_PAYLOAD: Final = Raw(b"null")


class Stored(Struct):
    """A task and the number of its row."""

    seq: int
    task: Task


def select(db: apsw.Connection, source: str, bindings: Sequence[Value], *, payloads: bool = True) -> list[Stored]:
    """The rows of a source, which is a table with a WHERE clause or a subquery in parentheses, in its order."""
    fields, texts = next(db.execute((_WITH_PAYLOADS if payloads else _WITHOUT_PAYLOADS) + source, bindings))
    rows = _decode_rows(fields)
    if texts is None:
        return [Stored(row.seq, _task(row, None)) for row in rows]
    return [
        Stored(row.seq, _task(row, None if text == _NO_PAYLOAD else text.copy()))
        for row, text in zip(rows, _decode_payloads(texts), strict=True)
    ]


def select_ids(db: apsw.Connection, ids: Iterable[str], *, payloads: bool = True) -> dict[str, Stored]:
    """The rows of the tasks with these IDs."""
    found: dict[str, Stored] = {}
    for chunk in chunks(list(dict.fromkeys(ids))):
        source = f"task WHERE id IN ({marks(len(chunk))})"
        found.update((stored.task.id, stored) for stored in select(db, source, chunk, payloads=payloads))
    return found


def _task(row: _Row, payload: Raw | None) -> Task:
    return Task(
        id=row.id,
        topic=row.topic,
        state=row.state,
        nonce=row.nonce,
        producer=row.producer,
        consumer=row.consumer,
        produced=row.produced,
        scheduled=row.scheduled,
        consumed=row.consumed,
        deadline=row.deadline,
        payload=payload,
    )


def row(seq: int, task: Task) -> tuple[Value, ...]:
    """The values of a task in the order of INSERTED."""
    produced = to_ms(task.produced)
    return (
        seq,
        task.id,
        task.topic,
        task.state,
        task.nonce,
        task.producer,
        task.consumer,
        produced,
        produced if task.scheduled is task.produced else to_ms(task.scheduled),
        optional_ms(task.consumed),
        optional_ms(task.deadline),
        payload_text(task.payload),
    )


def optional_ms(moment: datetime | None) -> int | None:
    """Milliseconds since the epoch, or None."""
    return None if moment is None else to_ms(moment)


def payload_text(payload: Raw | bytes | None) -> str | None:
    """The text of a payload, or None."""
    return None if payload is None else str(payload, "utf-8")


def execute_values(db: apsw.Connection, before: str, rows: Sequence[Sequence[Value]], after: str = "") -> int:
    """Run a statement around `VALUES (…), (…)`; the number of changed rows."""
    changed = 0
    for chunk in chunks(rows):
        values = ", ".join([f"({marks(len(chunk[0]))})"] * len(chunk))
        db.execute(f"{before} VALUES {values} {after}", tuple(chain.from_iterable(chunk)))
        changed += db.changes()
    return changed


def execute_in(
    db: apsw.Connection, before: str, values: Sequence[Value], after: str = "", bindings: Sequence[Value] = ()
) -> int:
    """Run a statement around `IN (…)`, with bindings for what comes after; the number of changed rows."""
    changed = 0
    for chunk in chunks(values):
        db.execute(f"{before} IN ({marks(len(chunk))}) {after}", (*chunk, *bindings))
        changed += db.changes()
    return changed


def marks(count: int) -> str:
    """So many question marks."""
    return "?" + ", ?" * (count - 1)


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in slices that one statement can take."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
