"""Rows in and out, many in one step.

The GIL is released for every step of a statement, and a busy event loop makes the thread wait to get it back, so
statements move whole batches: rows come out as one row of JSON text, and go in as one list of VALUES.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Final, Self

import apsw
import msgspec
from msgspec import Raw, Struct

from ratus.model import Task
from ratus.times import to_ms

Value = str | int | None

_FEW: Final = 8  # rows up to which it is faster to select one after the other
_SIZES: Final = (64, 16, 4)  # rows that one statement changes

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
_ONE_WITH_PAYLOAD: Final = f"SELECT json_array({_FIELDS}), coalesce(payload, 'null') FROM task WHERE id = ?"
_ONE_WITHOUT_PAYLOAD: Final = f"SELECT json_array({_FIELDS}), '' FROM task WHERE id = ?"


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
_encode: Final = msgspec.json.Encoder().encode
_decode_payloads: Final = msgspec.json.Decoder(list[Raw]).decode
_NO_PAYLOAD: Final = Raw(b"null")


class Stored(Struct):
    """A task and the number of its row."""

    seq: int
    task: Task


def select(db: apsw.Connection, source: str, bindings: Sequence[Value], *, payloads: bool = True) -> list[Stored]:
    """The rows of a source, which is a table with a WHERE clause or a subquery in parentheses, in its order."""
    fields, texts = next(db.execute((_WITH_PAYLOADS if payloads else _WITHOUT_PAYLOADS) + source, bindings))
    return _stored(fields, texts)


def _stored(fields: str, texts: str | None) -> list[Stored]:
    rows = _decode_rows(fields)
    if texts is None:
        return [Stored(row.seq, _task(row, None)) for row in rows]
    return [
        Stored(row.seq, _task(row, None if text == _NO_PAYLOAD else text.copy()))
        for row, text in zip(rows, _decode_payloads(texts), strict=True)
    ]


def select_ids(db: apsw.Connection, ids: Iterable[str], *, payloads: bool = True) -> dict[str, Stored]:
    """The rows of the tasks with these IDs."""
    different = list(dict.fromkeys(ids))
    if len(different) <= _FEW:
        statement = _ONE_WITH_PAYLOAD if payloads else _ONE_WITHOUT_PAYLOAD
        found = db.executemany(statement, [(id,) for id in different]).fetchall()
        fields, texts = (",".join(column) for column in zip(*found, strict=True)) if found else ("", "")
        stored = _stored(f"[{fields}]", f"[{texts}]" if payloads else None)
    else:
        source = "task WHERE id IN (SELECT value FROM json_each(?))"
        stored = select(db, source, (_encode(different).decode(),), payloads=payloads)
    return {one.task.id: one for one in stored}


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


class Change:
    """A statement that changes one row, and its like that change several in one step.

    Their sizes are few, as each is compiled once, and is in the caches of the processor when it is used often.
    """

    def __init__(self, one: str, before: str, after: str, columns: int) -> None:
        row = f"({marks(columns)})"
        many = {size: f"{before} VALUES {', '.join([row] * size)} {after}" for size in _SIZES}
        self._statements: Final = {**many, 1: one}

    @classmethod
    def insert(cls, columns: str, conflict: str) -> Self:
        """Insert rows of these columns."""
        count = columns.count(",") + 1
        before = f"INSERT INTO task ({columns})"
        return cls(f"{before} VALUES ({marks(count)}) {conflict}", before, conflict, count)

    @classmethod
    def update(cls, setters: str, columns: int) -> Self:
        """Update the rows with the numbers in the first column; the setters refer to the others by `{2}` and so on."""
        places = range(columns + 1)
        return cls(
            f"UPDATE task SET {setters.format(*(f'?{place}' for place in places))} WHERE seq = ?1",
            f"UPDATE task SET {setters.format(*(f'v.column{place}' for place in places))} FROM (",
            ") AS v WHERE task.seq = v.column1",
            columns,
        )

    def run(self, db: apsw.Connection, rows: Sequence[Sequence[Value]]) -> int:
        """Apply it to rows; the number of changed ones."""
        changed = position = 0
        for size, statement in self._statements.items():
            while len(rows) - position >= size:
                db.execute(statement, tuple(chain.from_iterable(rows[position : position + size])))
                changed += db.changes()
                position += size
        return changed


def execute_in(
    db: apsw.Connection, before: str, values: Sequence[Value], after: str = "", bindings: Sequence[Value] = ()
) -> int:
    """Run a statement around `IN (…)`, with bindings for what comes after; the number of changed rows."""
    db.execute(f"{before} IN (SELECT value FROM json_each(?)) {after}", (_encode(values).decode(), *bindings))
    return db.changes()


def marks(count: int) -> str:
    """So many question marks."""
    return "?" + ", ?" * (count - 1)
