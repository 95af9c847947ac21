"""What an operator should know of a file."""

import os
import shutil
from collections.abc import Sequence
from typing import Final

import apsw

from ratus.config import MIB
from ratus.engines.sqlite import schema
from ratus.model import Check, Outcome
from ratus.sizes import size_text

_LARGE_WAL: Final = 256 * MIB
_LITTLE_ROOM: Final = 1024 * MIB
_DAMAGES: Final = 3  # told of

_COUNTED: Final = """
WITH counted AS (
    SELECT topic, sum(state = 0), sum(state = 1), sum(state = 2), sum(state = 3) FROM task GROUP BY topic
), kept AS (
    SELECT name, pending, active, completed, archived FROM topic WHERE pending + active + completed + archived <> 0
)
SELECT count(DISTINCT topic) FROM (
    SELECT * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept)
    UNION ALL SELECT * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted)
)
"""


def of_memory(db: apsw.Connection, entries: Sequence[None]) -> list[list[Check]]:
    """Checks of a database in memory."""
    size = db.pragma("page_count") * db.pragma("page_size")
    detail = f"{size_text(size)} in memory, nothing is kept after the end; SQLite {apsw.sqlite_lib_version()}"
    return [[Check("database", Outcome.OK, detail)] for _ in entries]


def of_file(path: str, *, thorough: bool) -> list[Check]:
    """Checks of a database file, on a connection of its own."""
    db = schema.connect_reader(path)
    try:
        checks = [_database(db, path), _journal(db, path), _room(path)]
        return [*checks, _damage(db), _counts(db)] if thorough else checks
    finally:
        db.close()


def _database(db: apsw.Connection, path: str) -> Check:
    free = db.pragma("freelist_count") * db.pragma("page_size")
    detail = (
        f"{os.path.abspath(path)}: {size_text(os.path.getsize(path))}, of which {size_text(free)} are free; "
        f"schema {db.pragma('user_version')}, SQLite {apsw.sqlite_lib_version()}"
    )
    return Check("database", Outcome.OK, detail)


def _journal(db: apsw.Connection, path: str) -> Check:
    mode = db.pragma("journal_mode")
    if mode != "wal":
        return Check("journal", Outcome.FAILED, f"the mode is {mode}, not wal: start the server anew")
    try:
        size = os.path.getsize(path + "-wal")
    except FileNotFoundError:
        return Check("journal", Outcome.FAILED, "the -wal file is gone, whose writes are lost: restore a backup")
    if size > _LARGE_WAL:
        return Check("journal", Outcome.WARNING, f"{size_text(size)}: something reads for long, such as a backup")
    return Check("journal", Outcome.OK, size_text(size))


def _room(path: str) -> Check:
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    detail = f"{size_text(free)} free"
    if free < _LITTLE_ROOM:
        return Check("disk", Outcome.WARNING, f"{detail}: make room")
    if free < os.path.getsize(path):
        return Check("disk", Outcome.WARNING, f"{detail}: not enough for a backup, which is copied there first")
    return Check("disk", Outcome.OK, detail)


def _damage(db: apsw.Connection) -> Check:
    try:
        found = [" ".join(str(row[0]).split()) for row in db.execute(f"PRAGMA quick_check({_DAMAGES})")]
    except apsw.CorruptError as error:
        found = [str(error)]
    if found == ["ok"]:
        return Check("integrity", Outcome.OK, "no damage found")
    return Check("integrity", Outcome.FAILED, f"{'; '.join(found)}: restore a backup")


def _counts(db: apsw.Connection) -> Check:
    try:
        wrong = db.execute(_COUNTED).get
    except apsw.CorruptError as error:
        return Check("counts", Outcome.FAILED, f"cannot be checked: {error}")
    if wrong:
        return Check("counts", Outcome.FAILED, f"of {wrong} topics the counts are not those of their tasks")
    return Check("counts", Outcome.OK, "those of all topics are right")
