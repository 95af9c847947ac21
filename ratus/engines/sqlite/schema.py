"""The schema of the file, and which files are accepted.

A file is ours when its header (https://sqlite.org/fileformat2.html#database_header) carries our application ID;
its user version is the version of the schema. Both are read before SQLite touches the file, so that the file of
another program or of a newer Ratus is left as it was.
"""

import os
from collections.abc import Iterator
from itertools import count
from typing import Final

import apsw

from ratus.errors import StartError

APPLICATION_ID: Final = 0x52617475  # "Ratu"
VERSION: Final = 1
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")  # at the begin of a rollback journal
_PAGE_BYTES: Final = 2048  # of new files; smaller pages are less to write for tasks whose ids are random
# After which the journal is shortened; the more, the fewer pages are written twice, and the more rarely.
WAL_BYTES: Final = 48 * 1024 * 1024
_FIRST_WAL_BYTES: Final = 16 * 1024 * 1024  # which a start gives it

# `seq` is the order of insertion. Where ids are random, every index that has them costs a page to write for each task,
# so there is one such index only, and lists, which are in order of id, do without their own (see `reads`). The topic
# table is kept by triggers, so that counting never scans tasks.
_SCHEMA: Final = """
CREATE TABLE task (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    state INTEGER NOT NULL,
    nonce TEXT NOT NULL,
    producer TEXT NOT NULL,
    consumer TEXT NOT NULL,
    produced INTEGER NOT NULL,
    scheduled INTEGER NOT NULL,
    consumed INTEGER,
    deadline INTEGER,
    payload TEXT,
    request TEXT
) STRICT;
CREATE INDEX task_topic ON task (topic);
CREATE INDEX task_due ON task (topic, scheduled) WHERE state = 0;
CREATE INDEX task_promised ON task (topic) WHERE state = 1;
CREATE INDEX task_deadline ON task (deadline) WHERE state = 1;
CREATE INDEX task_consumed ON task (consumed) WHERE state = 2;
CREATE INDEX task_requested ON task (request) WHERE state = 1 AND request IS NOT NULL;

CREATE TABLE topic (
    name TEXT PRIMARY KEY,
    pending INTEGER NOT NULL,
    active INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    archived INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER task_inserted AFTER INSERT ON task BEGIN
    INSERT INTO topic VALUES (new.topic, new.state = 0, new.state = 1, new.state = 2, new.state = 3)
    ON CONFLICT DO UPDATE SET pending = pending + excluded.pending, active = active + excluded.active,
        completed = completed + excluded.completed, archived = archived + excluded.archived;
END;
CREATE TRIGGER task_deleted AFTER DELETE ON task BEGIN
    UPDATE topic SET pending = pending - (old.state = 0), active = active - (old.state = 1),
        completed = completed - (old.state = 2), archived = archived - (old.state = 3) WHERE name = old.topic;
END;
CREATE TRIGGER task_changed AFTER UPDATE OF state ON task
WHEN old.topic = new.topic AND old.state <> new.state BEGIN
    UPDATE topic SET pending = pending + (new.state = 0) - (old.state = 0),
        active = active + (new.state = 1) - (old.state = 1),
        completed = completed + (new.state = 2) - (old.state = 2),
        archived = archived + (new.state = 3) - (old.state = 3) WHERE name = new.topic;
END;
CREATE TRIGGER task_moved AFTER UPDATE OF topic ON task WHEN old.topic <> new.topic BEGIN
    UPDATE topic SET pending = pending - (old.state = 0), active = active - (old.state = 1),
        completed = completed - (old.state = 2), archived = archived - (old.state = 3) WHERE name = old.topic;
    INSERT INTO topic VALUES (new.topic, new.state = 0, new.state = 1, new.state = 2, new.state = 3)
    ON CONFLICT DO UPDATE SET pending = pending + excluded.pending, active = active + excluded.active,
        completed = completed + excluded.completed, archived = archived + excluded.archived;
END;
"""


class Connection(apsw.Connection):
    """A connection; that which writes gives every new row its number, as there is no other writer."""

    numbers: Iterator[int]


def check_header(path: str) -> None:
    """Refuse what is no file of ours, without SQLite; StartError."""
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot open {path}: {error.strerror}") from None
    if not header or (not any(header) and _was_being_made(path)):
        return
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise StartError(f"{path} is not a Ratus queue: it is no SQLite database")
    _check_versions(path, int.from_bytes(header[68:72]), int.from_bytes(header[60:64]))


def _was_being_made(path: str) -> bool:
    """Whether there is a journal, by which SQLite undoes what a power cut has left of the first transaction."""
    try:
        with open(path + "-journal", "rb") as file:
            return file.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC
    except OSError:
        return False


def _check_versions(path: str, application_id: int, version: int) -> None:
    if application_id != APPLICATION_ID:
        raise StartError(f"{path} is not a Ratus queue: it belongs to another program")
    if version > VERSION:
        raise StartError(f"{path} was written by a newer Ratus (schema {version}; this one knows up to {VERSION})")


def connect(path: str | None) -> Connection:
    """Open the connection that writes, and create the schema in a new file; StartError.

    The schema is created with a rollback journal, so that from the first moment on the header, which
    `check_header` reads, says whose file it is; only then is the file switched to WAL.
    """
    try:
        connection = Connection(path or ":memory:", statementcachesize=256)
        connection.set_busy_timeout(1000)
        _prepare(connection, path)
        connection.numbers = count(1 + (connection.execute("SELECT max(seq) FROM task").get or 0))
    except apsw.Error as error:
        raise StartError(f"cannot open {path}: {str(error) or type(error).__name__}") from None
    return connection


def _prepare(connection: apsw.Connection, path: str | None) -> None:
    connection.execute("PRAGMA temp_store = MEMORY")
    if not connection.execute("SELECT count(*) FROM sqlite_schema").get:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}")
        connection.execute(_SCHEMA)
        connection.execute("COMMIT")
    _check_versions(
        path or "memory", connection.pragma("application_id"), connection.pragma("user_version")
    )  # again, as the file may have a journal that says more than its header
    if path is not None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {2 * WAL_BYTES}")
        _grow_journal(connection)  # before there is a cache that would hold all of it
        connection.execute("PRAGMA cache_size = -65536")


def _grow_journal(connection: apsw.Connection) -> None:
    """Give the journal a size.

    To sync what overwrites a file is faster than to sync what makes it longer (measured: 0.96 against 1.49 ms on an
    idle machine). The pages stay in the database as free ones.
    """
    try:
        connection.execute("DROP TABLE IF EXISTS filler")  # of a start that was interrupted, or found no room
        connection.execute("CREATE TABLE filler (bytes BLOB)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (min(_FIRST_WAL_BYTES, WAL_BYTES),))
        connection.execute("DROP TABLE filler")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
    except apsw.FullError:
        return  # it will do without


def connect_reader(path: str) -> Connection:
    """Open a connection that does not write, and makes no checkpoint by itself."""
    connection = Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(1000)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def lock_path(path: str) -> str:
    """The file whose lock says that a process serves the queue; beside the database, whose own locks are SQLite's."""
    return os.path.realpath(path) + ".lock"
