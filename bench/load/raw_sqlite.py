"""What SQLite does by itself, with our durability: tasks inserted, claimed and completed, each step a transaction.

Prints full tasks a second. `python -m bench.load.raw_sqlite PATH SECONDS BATCH`
"""

import itertools
import secrets
import sys
import time

import apsw

from bench.load.calls import PAYLOAD

DAY = 86_400_000  # milliseconds
FILL_KIB = 4 * 2**20  # of SQLite's cache; memory is taken as it is needed
SCHEMA = """
CREATE TABLE task (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, state INTEGER NOT NULL,
                   nonce TEXT NOT NULL, scheduled INTEGER NOT NULL, deadline INTEGER, payload TEXT) STRICT;
CREATE INDEX due ON task (topic, scheduled) WHERE state = 0;
"""
INSERT = "INSERT INTO task (id, topic, state, nonce, scheduled, payload) VALUES "
CLAIM = (
    "UPDATE task SET state = 1, nonce = ?, deadline = ? WHERE seq IN (SELECT seq FROM task WHERE topic = 'bench' "
    "AND state = 0 AND scheduled <= ? ORDER BY scheduled LIMIT ?) RETURNING id, payload"
)


def connect(path: str) -> apsw.Connection:
    db = apsw.Connection(path)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536"):
        db.execute(f"PRAGMA {pragma}")
    if not db.pragma("user_version"):
        db.execute(SCHEMA)
        db.execute("PRAGMA user_version = 1")
    return db


def fill(path: str, count: int) -> None:
    """Store tasks with random ids in all states, none of which is due."""
    db, payload, now = connect(path), PAYLOAD.decode(), int(time.time() * 1000)
    # Without a journal, and each page written once, in the end.
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = {-FILL_KIB}"):
        db.execute(f"PRAGMA {pragma}")
    rows = ((secrets.token_hex(8), number % 4, now + DAY, payload) for number in range(count))
    with db:
        db.executemany(f"{INSERT} (?, 'bench', ?, '', ?, ?)", rows)
    db.close()


def step(db: apsw.Connection, sql: str, bindings: tuple[object, ...]) -> list[tuple[str, str]]:
    """A transaction, which is on disk when this returns."""
    db.execute("BEGIN IMMEDIATE")
    rows = db.execute(sql, bindings).fetchall()
    db.execute("COMMIT")
    return rows


def main(path: str, seconds: float, batch: int) -> None:
    db = connect(path)
    payload = PAYLOAD.decode()
    inserts = INSERT + ", ".join(["(?, 'bench', 0, '', ?, ?)"] * batch)
    completes = f"UPDATE task SET state = 2, nonce = '' WHERE nonce = ? AND id IN ({', '.join('?' * batch)})"
    count, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        now = int(time.time() * 1000)
        step(db, inserts, tuple(itertools.chain(*((secrets.token_hex(8), now, payload) for _ in range(batch)))))
        nonce = secrets.token_hex(8)
        claimed = step(db, CLAIM, (nonce, now + 60_000, now, batch))
        step(db, completes, (nonce, *(id for id, _ in claimed)))
        count += len(claimed)
    print(count / spent)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
