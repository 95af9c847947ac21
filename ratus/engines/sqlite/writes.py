"""The operations that write, each on a batch of entries, within the transaction of the worker."""

from collections.abc import Sequence
from itertools import count
from typing import Final

import apsw

from ratus import rules
from ratus.engines.sqlite.rows import (
    INSERTED,
    Stored,
    Value,
    execute_in,
    execute_values,
    optional_ms,
    payload_text,
    select,
    select_ids,
)
from ratus.engines.sqlite.rows import row as row_of
from ratus.errors import NotFound, RatusError, TaskNotPending
from ratus.model import Commit, Extension, Grant, Hold, Task, TaskState
from ratus.times import to_ms

PURGE_ROWS: Final = 1000  # a transaction, so that a large deletion lets others in between

_UPDATED: Final = ", ".join(f"{name} = excluded.{name}" for name in INSERTED.split(", ")[2:]) + ", request = NULL"
_GRANT: Final = (
    "UPDATE task SET state = 1, nonce = v.column2, consumer = v.column3, consumed = v.column4, "
    "deadline = v.column5, request = v.column6 FROM ("
)
_COMMIT: Final = "UPDATE task SET state = v.column2, nonce = '', request = NULL FROM ("
_COMMIT_ALL: Final = (
    "UPDATE task SET state = v.column2, nonce = '', request = NULL, topic = v.column3, scheduled = v.column4, "
    "payload = coalesce(v.column5, payload) FROM ("
)
_BY_SEQ: Final = ") AS v WHERE task.seq = v.column1"
_DUE: Final = "task WHERE topic = ? AND state = 0 AND scheduled <= ?"
_FREE: Final = "UPDATE task SET state = 0, nonce = ''"


class Writes:
    """The operations; they know the next number of a row, as there is no other writer."""

    def __init__(self, db: apsw.Connection) -> None:
        self._seq = count(1 + (db.execute("SELECT max(seq) FROM task").get or 0))

    def insert(self, db: apsw.Connection, tasks: Sequence[Task]) -> list[bool]:
        """Insert tasks whose IDs are new, of equal ones the first; tell which."""
        first: dict[str, int] = {}
        for index, task in enumerate(tasks):
            first.setdefault(task.id, index)
        rows = [row_of(next(self._seq), tasks[index]) for index in first.values()]
        inserted = execute_values(db, f"INSERT INTO task ({INSERTED})", rows, "ON CONFLICT DO NOTHING")
        existing = set() if inserted == len(rows) else _older(db, list(first), rows)
        return [first[task.id] == index and task.id not in existing for index, task in enumerate(tasks)]

    def upsert(self, db: apsw.Connection, tasks: Sequence[Task]) -> list[bool]:
        """Insert or replace tasks, of equal IDs the last; tell which are new."""
        first: dict[str, int] = {}
        last: dict[str, Task] = {}
        for index, task in enumerate(tasks):
            first.setdefault(task.id, index)
            last[task.id] = task
        rows = [row_of(next(self._seq), task) for task in last.values()]
        execute_values(db, f"INSERT INTO task ({INSERTED})", rows, f"ON CONFLICT (id) DO UPDATE SET {_UPDATED}")
        existing = _older(db, list(first), rows)
        return [first[task.id] == index and task.id not in existing for index, task in enumerate(tasks)]


def _older(db: apsw.Connection, ids: list[str], rows: Sequence[tuple[Value, ...]]) -> set[str]:
    """Of the tasks with these IDs, those that were there before the rows."""
    numbers = {row[1]: row[0] for row in rows}
    found = select_ids(db, ids, payloads=False)
    return {id for id, stored in found.items() if stored.seq != numbers[id]}


class Claim:
    """A claim on a topic; an operation of its own, as its entries get tasks one after the other."""

    def __init__(self, topic: str, max_bytes: int) -> None:
        self._topic = topic
        self._max_bytes = max_bytes

    def __call__(self, db: apsw.Connection, grants: Sequence[Grant]) -> list[Task]:
        """Give the due tasks to the grants in order."""
        now = to_ms(grants[0].consumed)
        found = self._first(db, now) if len(grants) == 1 else self._next(db, now, len(grants))
        return give(db, list(zip(found, grants, strict=False)))

    def _first(self, db: apsw.Connection, now: int) -> list[Stored]:
        """The first due task, in two steps that are a third of what the one for many costs."""
        seq = db.execute(f"SELECT seq FROM {_DUE} ORDER BY scheduled, seq LIMIT 1", (self._topic, now)).get
        return [] if seq is None else select(db, "task WHERE seq = ?", (seq,))

    def _next(self, db: apsw.Connection, now: int, count: int) -> list[Stored]:
        """So many due tasks in their order, as far as they fit."""
        due = (
            "SELECT task.* FROM (SELECT seq, row_number() OVER w AS place, "
            f"sum(coalesce(octet_length(payload), 0)) OVER w AS bytes FROM {_DUE} "
            "WINDOW w AS (ORDER BY scheduled, seq ROWS UNBOUNDED PRECEDING) LIMIT ?) AS due "
            f"JOIN task USING (seq) WHERE place = 1 OR bytes <= {self._max_bytes}"
        )
        found = select(db, f"({due})", (self._topic, now, count))
        found.sort(key=lambda stored: (stored.task.scheduled, stored.seq))
        return found


def give(db: apsw.Connection, given: Sequence[tuple[Stored, Grant]]) -> list[Task]:
    """Set grants on tasks."""
    rows = [
        (stored.seq, grant.nonce, grant.consumer, to_ms(grant.consumed), to_ms(grant.deadline), grant.request or None)
        for stored, grant in given
    ]
    execute_values(db, _GRANT, rows, _BY_SEQ)
    return [rules.claimed(stored.task, grant) for stored, grant in given]


def promise(db: apsw.Connection, entries: Sequence[tuple[str, Grant, bool]]) -> list[Task | RatusError]:
    """Give named tasks to grants: pending ones, or with the flag any."""
    found = select_ids(db, [id for id, _, _ in entries])
    results: list[Task | RatusError] = []
    for id, grant, force in entries:
        stored = found.get(id)
        if stored is None:
            results.append(NotFound())
        elif stored.task.state != TaskState.PENDING and not force:
            results.append(TaskNotPending())
        else:
            [stored.task] = give(db, [(stored, grant)])
            results.append(stored.task)
    return results


def commit(db: apsw.Connection, commits: Sequence[Commit]) -> list[Task | RatusError]:
    """Apply commits in order."""
    return _commit(db, commits, payloads=True)


def commit_without_payloads(db: apsw.Connection, commits: Sequence[Commit]) -> list[Task | RatusError]:
    """Apply commits in order; the tasks come without their payloads."""
    return _commit(db, commits, payloads=False)


def _commit(db: apsw.Connection, commits: Sequence[Commit], *, payloads: bool) -> list[Task | RatusError]:
    found = select_ids(db, [commit.id for commit in commits], payloads=payloads)
    changed: dict[int, Task] = {}
    changed_all: dict[int, Task] = {}
    results: list[Task | RatusError] = []
    for commit in commits:
        stored = found.get(commit.id)
        result = NotFound() if stored is None else rules.committed(stored.task, commit)
        results.append(result)
        if stored is None or isinstance(result, RatusError):
            continue
        stored.task = result
        more = commit.topic or commit.scheduled or commit.payload is not None
        (changed_all if more or stored.seq in changed_all else changed)[stored.seq] = result
    rows = [(seq, task.state) for seq, task in changed.items() if seq not in changed_all]
    execute_values(db, _COMMIT, rows, _BY_SEQ)
    rows_all = [
        (seq, task.state, task.topic, to_ms(task.scheduled), payload_text(task.payload))
        for seq, task in changed_all.items()
    ]
    execute_values(db, _COMMIT_ALL, rows_all, _BY_SEQ)
    return results


def extend(db: apsw.Connection, extensions: Sequence[Extension]) -> list[bool]:
    """Set the deadlines of promises that are held."""
    found = select_ids(db, [extension.id for extension in extensions], payloads=False)
    results, rows = [], {}
    for extension in extensions:
        stored = found.get(extension.id)
        held = _holds(stored, extension.nonce)
        results.append(held)
        if stored is not None and held:
            rows[stored.seq] = (stored.seq, optional_ms(extension.deadline))
    execute_values(db, "UPDATE task SET deadline = v.column2 FROM (", list(rows.values()), _BY_SEQ)
    return results


def release(db: apsw.Connection, holds: Sequence[Hold]) -> list[str | None]:
    """Set tasks that are held back to pending; their topics."""
    found = select_ids(db, [hold.id for hold in holds], payloads=False)
    results: list[str | None] = []
    freed: list[int] = []
    for hold in holds:
        stored = found.get(hold.id)
        if stored is not None and _holds(stored, hold.nonce):
            freed.append(stored.seq)
            results.append(stored.task.topic)
            del found[hold.id]  # a second release of the same promise finds it gone
        else:
            results.append(None)
    execute_in(db, f"{_FREE} WHERE seq", freed)
    return results


def _holds(stored: Stored | None, nonce: str) -> bool:
    return stored is not None and stored.task.state == TaskState.ACTIVE and stored.task.nonce == nonce


def delete_promise(db: apsw.Connection, entries: Sequence[tuple[str, str]]) -> list[str | None]:
    """Set active tasks back to pending, with a nonce only if it is still the task's; their topics."""
    topics: list[str | None] = []
    for id, nonce in entries:
        topic = db.execute("SELECT topic FROM task WHERE id = ? AND state = 1 AND ? IN ('', nonce)", (id, nonce)).get
        if topic is not None:
            db.execute(f"{_FREE} WHERE id = ?", (id,))
        topics.append(topic)
    return topics


def delete(db: apsw.Connection, ids: Sequence[str]) -> list[int]:
    """Delete tasks; 1 for each that was there."""
    deleted = []
    for id in ids:
        db.execute("DELETE FROM task WHERE id = ?", (id,))
        deleted.append(db.changes())
    return deleted


def delete_some(db: apsw.Connection, entries: Sequence[tuple[str, Sequence[Value]]]) -> list[int]:
    """Delete at most PURGE_ROWS of the tasks that a condition with its bindings selects; their number."""
    deleted = []
    for condition, bindings in entries:
        db.execute(
            f"DELETE FROM task WHERE seq IN (SELECT seq FROM task WHERE {condition} LIMIT {PURGE_ROWS})", bindings
        )
        deleted.append(db.changes())
    return deleted


def delete_finished(db: apsw.Connection, entries: Sequence[tuple[Sequence[int], str, int]]) -> list[int]:
    """Delete tasks by their numbers as far as they are still in a topic and a state; their number."""
    return [
        execute_in(db, "DELETE FROM task WHERE seq", seqs, f"AND topic = ? AND state = {int(state)}", (topic,))
        for seqs, topic, state in entries
    ]


def free_some(db: apsw.Connection, entries: Sequence[tuple[str, Sequence[Value]]]) -> list[list[str]]:
    """Set at most PURGE_ROWS of the tasks that a condition selects back to pending; the topic of each."""
    freed = []
    for condition, bindings in entries:
        found = select(db, f"(SELECT * FROM task WHERE {condition} LIMIT {PURGE_ROWS})", bindings, payloads=False)
        execute_in(db, f"{_FREE} WHERE seq", [stored.seq for stored in found])
        freed.append([stored.task.topic for stored in found])
    return freed


def forget_topics(db: apsw.Connection, entries: Sequence[None]) -> list[None]:
    """Remove the counts of topics that have no tasks."""
    db.execute("DELETE FROM topic WHERE pending + active + completed + archived = 0")
    return list(entries)


def last_seq(db: apsw.Connection, entries: Sequence[None]) -> list[int]:
    """The greatest number of a row."""
    return [db.execute("SELECT max(seq) FROM task").get or 0 for _ in entries]
