"""The operations that write, each on a batch of entries, within the transaction of the worker."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ratus import rules
from ratus.engines.sqlite.rows import (
    INSERTED,
    Change,
    Stored,
    Value,
    execute_in,
    optional_ms,
    payload_text,
    select,
    select_ids,
)
from ratus.engines.sqlite.rows import row as row_of
from ratus.engines.sqlite.schema import Connection
from ratus.errors import NotFound, RatusError, TaskNotPending
from ratus.model import Commit, Extension, Grant, Hold, Task, TaskState
from ratus.times import to_ms

PURGE_ROWS: Final = 1000  # a transaction, so that a large deletion lets others in between

_UPDATED: Final = ", ".join(f"{name} = excluded.{name}" for name in INSERTED.split(", ")[2:]) + ", request = NULL"
_INSERT: Final = Change.insert(INSERTED, "ON CONFLICT DO NOTHING")
_UPSERT: Final = Change.insert(INSERTED, f"ON CONFLICT (id) DO UPDATE SET {_UPDATED}")
_GRANT: Final = Change.update(
    "state = 1, nonce = {2}, consumer = {3}, consumed = {4}, deadline = {5}, request = {6}", 6
)
_COMMIT: Final = Change.update("state = {2}, nonce = '', request = NULL", 2)
_COMMIT_ALL: Final = Change.update(
    "state = {2}, nonce = '', request = NULL, topic = {3}, scheduled = {4}, payload = coalesce({5}, payload)", 5
)
_EXTEND: Final = Change.update("deadline = {2}", 2)
_DUE: Final = "task WHERE topic = ? AND state = 0 AND scheduled <= ?"
_FREE: Final = "UPDATE task SET state = 0, nonce = ''"


def insert(db: Connection, tasks: Sequence[Task]) -> list[bool]:
    """Insert tasks whose IDs are new, of equal ones the first; tell which."""
    first: dict[str, int] = {}
    for index, task in enumerate(tasks):
        first.setdefault(task.id, index)
    rows = [row_of(next(db.numbers), tasks[index]) for index in first.values()]
    inserted = _INSERT.run(db, rows)
    existing = set() if inserted == len(rows) else _older(db, list(first), rows)
    return [first[task.id] == index and task.id not in existing for index, task in enumerate(tasks)]


def upsert(db: Connection, tasks: Sequence[Task]) -> list[bool]:
    """Insert or replace tasks, of equal IDs the last; tell which are new."""
    first: dict[str, int] = {}
    last: dict[str, Task] = {}
    for index, task in enumerate(tasks):
        first.setdefault(task.id, index)
        last[task.id] = task
    rows = [row_of(next(db.numbers), task) for task in last.values()]
    _UPSERT.run(db, rows)
    existing = _older(db, list(first), rows)
    return [first[task.id] == index and task.id not in existing for index, task in enumerate(tasks)]


def _older(db: Connection, ids: list[str], rows: Sequence[tuple[Value, ...]]) -> set[str]:
    """Of the tasks with these IDs, those that were there before the rows."""
    numbers = {row[1]: row[0] for row in rows}
    found = select_ids(db, ids, payloads=False)
    return {id for id, stored in found.items() if stored.seq != numbers[id]}


class Claim(Struct):
    """A claim on a topic: its grants get the tasks that are due, in order, as far as their payloads fit."""

    topic: str
    max_bytes: int
    grants: list[Grant]


def claim(db: Connection, claims: Sequence[Claim]) -> list[list[Task]]:
    """Serve claims in order; what a topic has due is looked for once."""
    if len(claims) == 1:
        return [_claim(db, claims[0])]
    of_topic: dict[str, list[int]] = {}
    for index, one in enumerate(claims):
        of_topic.setdefault(one.topic, []).append(index)
    results: list[list[Task]] = [[]] * len(claims)
    for indices in of_topic.values():
        left = _claim(db, _merged([claims[index] for index in indices]))
        dry = not left
        for index in indices:
            one = claims[index]
            results[index], left = left[: len(one.grants)], left[len(one.grants) :]
            if not results[index] and not dry:  # unless nothing is due, those before have left no room for payloads
                results[index] = _claim(db, one)
                dry = not results[index]
    return results


def _merged(claims: Sequence[Claim]) -> Claim:
    if len(claims) == 1:
        return claims[0]
    grants = [grant for claim in claims for grant in claim.grants]
    return Claim(claims[0].topic, min(claim.max_bytes for claim in claims), grants)


def _claim(db: Connection, claim: Claim) -> list[Task]:
    found = _first_due(db, claim) if len(claim.grants) == 1 else _next_due(db, claim)
    pairs = zip(found, claim.grants, strict=False)
    return give(db, [(stored, rules.stamped(grant, stored.task)) for stored, grant in pairs])


def _first_due(db: Connection, claim: Claim) -> list[Stored]:
    """The first due task, in two steps that are a third of what the one for many costs."""
    now = to_ms(claim.grants[0].consumed)
    seq = db.execute(f"SELECT seq FROM {_DUE} ORDER BY scheduled, seq LIMIT 1", (claim.topic, now)).get
    return [] if seq is None else select(db, "task WHERE seq = ?", (seq,))


def _next_due(db: Connection, claim: Claim) -> list[Stored]:
    """The due tasks for a claim in their order."""
    now = to_ms(max(grant.consumed for grant in claim.grants))
    due = (
        "SELECT task.* FROM (SELECT seq, row_number() OVER w AS place, "
        f"sum(coalesce(octet_length(payload), 0)) OVER w AS bytes FROM {_DUE} "
        "WINDOW w AS (ORDER BY scheduled, seq ROWS UNBOUNDED PRECEDING) LIMIT ?) AS due "
        f"JOIN task USING (seq) WHERE place = 1 OR bytes <= {claim.max_bytes}"
    )
    found = select(db, f"({due})", (claim.topic, now, len(claim.grants)))
    found.sort(key=lambda stored: (stored.task.scheduled, stored.seq))
    return found


def give(db: Connection, given: Sequence[tuple[Stored, Grant]]) -> list[Task]:
    """Set grants on tasks."""
    rows = [
        (stored.seq, grant.nonce, grant.consumer, to_ms(grant.consumed), to_ms(grant.deadline), grant.request or None)
        for stored, grant in given
    ]
    _GRANT.run(db, rows)
    return [rules.claimed(stored.task, grant) for stored, grant in given]


def promise(db: Connection, entries: Sequence[tuple[str, Grant, bool]]) -> list[Task | RatusError]:
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


def commit(db: Connection, commits: Sequence[Commit]) -> list[Task | RatusError]:
    """Apply commits in order."""
    return _commit(db, commits, payloads=True)


def commit_without_payloads(db: Connection, commits: Sequence[Commit]) -> list[Task | RatusError]:
    """Apply commits in order; the tasks come without their payloads."""
    return _commit(db, commits, payloads=False)


def _commit(db: Connection, commits: Sequence[Commit], *, payloads: bool) -> list[Task | RatusError]:
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
    _COMMIT.run(db, rows)
    rows_all = [
        (seq, task.state, task.topic, to_ms(task.scheduled), payload_text(task.payload))
        for seq, task in changed_all.items()
    ]
    _COMMIT_ALL.run(db, rows_all)
    return results


def extend(db: Connection, extensions: Sequence[Extension]) -> list[bool]:
    """Set the deadlines of promises that are held."""
    found = select_ids(db, [extension.id for extension in extensions], payloads=False)
    results, rows = [], {}
    for extension in extensions:
        stored = found.get(extension.id)
        held = _holds(stored, extension.nonce)
        results.append(held)
        if stored is not None and held:
            rows[stored.seq] = (stored.seq, optional_ms(extension.deadline))
    _EXTEND.run(db, list(rows.values()))
    return results


def release(db: Connection, holds: Sequence[Hold]) -> list[str | None]:
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


def delete_promise(db: Connection, entries: Sequence[tuple[str, str]]) -> list[str | None]:
    """Set active tasks back to pending, with a nonce only if it is still the task's; their topics."""
    topics: list[str | None] = []
    for id, nonce in entries:
        topic = db.execute("SELECT topic FROM task WHERE id = ? AND state = 1 AND ? IN ('', nonce)", (id, nonce)).get
        if topic is not None:
            db.execute(f"{_FREE} WHERE id = ?", (id,))
        topics.append(topic)
    return topics


def delete(db: Connection, ids: Sequence[str]) -> list[int]:
    """Delete tasks; 1 for each that was there."""
    deleted = []
    for id in ids:
        db.execute("DELETE FROM task WHERE id = ?", (id,))
        deleted.append(db.changes())
    return deleted


def delete_some(db: Connection, entries: Sequence[tuple[str, Sequence[Value]]]) -> list[int]:
    """Delete at most PURGE_ROWS of the tasks that a condition with its bindings selects; their number."""
    deleted = []
    for condition, bindings in entries:
        db.execute(
            f"DELETE FROM task WHERE seq IN (SELECT seq FROM task WHERE {condition} LIMIT {PURGE_ROWS})", bindings
        )
        deleted.append(db.changes())
    return deleted


def delete_finished(db: Connection, entries: Sequence[tuple[Sequence[int], str, int]]) -> list[int]:
    """Delete tasks by their numbers as far as they are still in a topic and a state; their number."""
    return [
        execute_in(db, "DELETE FROM task WHERE seq", seqs, f"AND topic = ? AND state = {int(state)}", (topic,))
        for seqs, topic, state in entries
    ]


def free_some(db: Connection, entries: Sequence[tuple[str, Sequence[Value]]]) -> list[list[str]]:
    """Set at most PURGE_ROWS of the tasks that a condition selects back to pending; the topic of each."""
    freed = []
    for condition, bindings in entries:
        found = select(db, f"(SELECT * FROM task WHERE {condition} LIMIT {PURGE_ROWS})", bindings, payloads=False)
        execute_in(db, f"{_FREE} WHERE seq", [stored.seq for stored in found])
        freed.append([stored.task.topic for stored in found])
    return freed


def forget_topics(db: Connection, entries: Sequence[None]) -> list[None]:
    """Remove the counts of topics that have no tasks."""
    db.execute("DELETE FROM topic WHERE pending + active + completed + archived = 0")
    return list(entries)


def last_seq(db: Connection, entries: Sequence[None]) -> list[int]:
    """The greatest number of a row."""
    return [db.execute("SELECT max(seq) FROM task").get or 0 for _ in entries]
