"""The operations that read, each on a batch of entries."""

import json
from collections.abc import Sequence

import apsw

from ratus.engines.sqlite.rows import select, select_ids
from ratus.errors import NotFound
from ratus.model import Hold, Task, TaskState, Topic, TopicStats
from ratus.times import from_ms

_TOTAL = "pending + active + completed + archived"


def get(db: apsw.Connection, ids: Sequence[str]) -> list[Task | NotFound]:
    """Tasks by their IDs."""
    found = select_ids(db, ids)
    return [found[id].task if id in found else NotFound() for id in ids]


def list_tasks(db: apsw.Connection, pages: Sequence[tuple[str, str, int, int]]) -> list[list[Task]]:
    """Pages of tasks: topic, after, skip, limit."""
    return [_list(db, "", _TOTAL, *page, payloads=True) for page in pages]


def list_promises(db: apsw.Connection, pages: Sequence[tuple[str, str, int, int]]) -> list[list[Task]]:
    """Pages of active tasks, without payloads."""
    return [_list(db, "AND state = 1", "active", *page, payloads=False) for page in pages]


def _list(
    db: apsw.Connection, condition: str, counted: str, topic: str, after: str, skip: int, limit: int, *, payloads: bool
) -> list[Task]:
    """A page in order of id.

    Few candidates are all looked at and sorted. Where there are many, one of them is never far in the index of ids.
    """
    if topic:
        candidates = db.execute(f"SELECT {counted} FROM topic WHERE name = ?", (topic,)).get or 0
    else:
        candidates = db.execute(f"SELECT sum({counted}) FROM topic").get or 0
    last = db.execute("SELECT max(seq) FROM task").get or 0  # no fewer than there are tasks
    # A plus keeps SQLite from using the index that a term is for.
    if candidates**2 <= (skip + limit) * last:
        where = f"topic {'=' if topic else '>'} ? {condition} AND +id > ? ORDER BY +id"
    else:
        where = f"+topic {'=' if topic else '>'} ? {condition.replace('state', '+state')} AND id > ? ORDER BY id"
    source = f"(SELECT * FROM task WHERE {where} LIMIT ? OFFSET ?)"
    found = select(db, source, (topic, after, limit, skip), payloads=payloads)
    return sorted((stored.task for stored in found), key=lambda task: task.id.encode())


def find_seqs(db: apsw.Connection, entries: Sequence[tuple[str, int, int, int]]) -> list[list[int]]:
    """The numbers of tasks of a topic that are in a state, in their order: topic, state, after, limit."""
    found = "(SELECT seq FROM task WHERE topic = ? AND +state = ? AND seq > ? ORDER BY seq LIMIT ?)"
    return [json.loads(db.execute(f"SELECT json_group_array(seq) FROM {found}", entry).get) for entry in entries]


def held(db: apsw.Connection, holds: Sequence[Hold]) -> list[bool]:
    """Whether tasks are active with these nonces."""
    found = select_ids(db, [hold.id for hold in holds], payloads=False)
    return [
        hold.id in found and found[hold.id].task.state == TaskState.ACTIVE and found[hold.id].task.nonce == hold.nonce
        for hold in holds
    ]


def list_topics(db: apsw.Connection, pages: Sequence[tuple[str, int, int]]) -> list[list[Topic]]:
    """Pages of topics: after, skip, limit."""
    sql = f"SELECT name, {_TOTAL} AS n FROM topic WHERE name > ? AND n > 0 ORDER BY name LIMIT ? OFFSET ?"
    return [[Topic(*row) for row in db.execute(sql, (after, limit, skip))] for after, skip, limit in pages]


def get_topic(db: apsw.Connection, names: Sequence[str]) -> list[Topic | NotFound]:
    """Topics by their names."""
    sql = f"SELECT {_TOTAL} FROM topic WHERE name = ?"
    counts = [db.execute(sql, (name,)).get for name in names]
    return [Topic(name, count) if count else NotFound() for name, count in zip(names, counts, strict=True)]


def get_stats(db: apsw.Connection, entries: Sequence[tuple[str, int]]) -> list[TopicStats]:
    """Statistics of topics: name, and now in milliseconds."""
    return [_stats(db, topic, now) for topic, now in entries]


def _stats(db: apsw.Connection, topic: str, now: int) -> TopicStats:
    counts = db.execute("SELECT pending, active, completed, archived FROM topic WHERE name = ?", (topic,)).fetchone()
    pending, active, completed, archived = counts or (0, 0, 0, 0)
    due, oldest = next(
        db.execute(
            "SELECT count(*), min(scheduled) FROM task WHERE topic = ? AND state = 0 AND scheduled <= ?", (topic, now)
        )
    )
    upcoming = db.execute(
        "SELECT min(scheduled) FROM task WHERE topic = ? AND state = 0 AND scheduled > ?", (topic, now)
    ).get
    return TopicStats(
        pending=pending,
        active=active,
        completed=completed,
        archived=archived,
        due=due,
        oldest_due=None if oldest is None else from_ms(oldest),
        next_scheduled=None if upcoming is None else from_ms(upcoming),
    )


def next_scheduled(db: apsw.Connection, topics: Sequence[str]) -> list[int | None]:
    """The earliest times of pending tasks, in milliseconds."""
    sql = "SELECT min(scheduled) FROM task WHERE topic = ? AND state = 0"
    return [db.execute(sql, (topic,)).get for topic in topics]


def next_deadline(db: apsw.Connection, entries: Sequence[None]) -> list[int | None]:
    """The earliest deadline of the active tasks, in milliseconds."""
    return [db.execute("SELECT min(deadline) FROM task WHERE state = 1").get for _ in entries]


def requested(db: apsw.Connection, prefixes: Sequence[str]) -> list[list[tuple[str, Task]]]:
    """Active tasks by the begin of their requests."""
    return [_requested(db, prefix) for prefix in prefixes]


def _requested(db: apsw.Connection, prefix: str) -> list[tuple[str, Task]]:
    source = "task WHERE state = 1 AND request IS NOT NULL AND request >= ? AND request < ?"
    bindings = (prefix, prefix + "\U0010ffff")
    requests = dict(db.execute(f"SELECT seq, request FROM {source}", bindings))
    found = sorted(select(db, source, bindings), key=lambda stored: (stored.task.scheduled, stored.seq))
    return [(str(requests[stored.seq]), stored.task) for stored in found]


def due_topics(db: apsw.Connection, entries: Sequence[tuple[str, int]]) -> list[bool]:
    """Whether topics have a task that is due now (in milliseconds)."""
    sql = "SELECT EXISTS (SELECT 1 FROM task WHERE topic = ? AND state = 0 AND scheduled <= ?)"
    return [bool(db.execute(sql, entry).get) for entry in entries]


def ping(db: apsw.Connection, entries: Sequence[None]) -> list[None]:
    """Read the schema."""
    db.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 (reading is the point)
    return list(entries)
