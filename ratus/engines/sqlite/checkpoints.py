"""Checkpoints: what the journal holds is moved into the database beside the writer, who only does the rest.

A checkpoint by the writer keeps all calls waiting while some thousand pages are written and synced (measured: 60 ms,
with ten million tasks 150). So a thread with a connection of its own copies them and syncs the file, until little is
left. Only a checkpoint that leaves nothing lets the journal start anew; the writer makes it between two groups.

When the database could not be synced, the system may have dropped what it was to write, and takes it for written.
SQLite would not move again what it has moved, so from then on the journal is kept whole, and the next start moves it.
"""

import logging
import os
import threading
from queue import SimpleQueue
from typing import Final

import apsw

from ratus.engines.sqlite import schema

_LITTLE: Final = 1024  # pages that the writer moves itself
_PASSES: Final = 4  # over what was written meanwhile
_AHEAD: Final = 1  # times the length at which the journal is shortened, after which the writer waits

_log: Final = logging.getLogger(__name__)


class Checkpoints:
    """Keeps the journal of one file short. `after_group` is for the thread of the writer, the others are for any."""

    def __init__(self, path: str, writer: apsw.Connection) -> None:
        self._writer = writer
        self._every = schema.WAL_BYTES // writer.pragma("page_size")
        self._due = self._every  # pages in the journal when it is to be shortened
        self._pages = 0
        self._under_way = False
        self._prepared = threading.Event()  # there is little left for the writer to do
        self._kept = False  # since the database could not be synced
        # To close a descriptor gives up all POSIX locks of this process on the file, so it is closed after the last
        # connection.
        self._descriptor = os.open(path, os.O_RDONLY)
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(path,), name="sqlite-checkpoints", daemon=True)
        self._thread.start()
        writer.set_wal_hook(self._written)  # in the place of SQLite's own checkpoints

    def _written(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def after_group(self) -> None:
        """Begin to shorten the journal when it is long, and end it when the most is done.

        A writer that gets too far ahead waits, so that the journal has a bound.
        """
        if self._under_way and self._pages > self._due + _AHEAD * self._every:
            self._prepared.wait()
        if self._prepared.is_set():
            self._prepared.clear()
            left = self._pages
            try:
                if not self._kept:
                    left -= _checkpoint(self._writer)
            except apsw.Error as error:  # it is tried again; if the disk is full or broken, writes will tell
                self._failed(error, "")
            # A reader may keep what it reads in the journal, which then grows until the next try.
            self._due = self._every + (self._pages if left else 0)
            self._under_way = False
        elif self._pages >= self._due and not self._under_way and not self._kept:
            self._under_way = True
            self._orders.put(True)

    def stop(self) -> None:
        """End the thread; to be called before the connection of the writer is closed."""
        self._orders.put(False)
        self._thread.join()
        if self._kept:
            self._writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    def close(self) -> None:
        """Let go of the file, once its last connection is closed."""
        os.close(self._descriptor)

    def _run(self, path: str) -> None:
        connection: apsw.Connection | None = None
        while self._orders.get():
            try:
                connection = connection or _connect(path)
                self._prepare(connection)
            except (apsw.Error, OSError) as error:
                self._failed(error, " beside the writer")
            self._prepared.set()
        if connection is not None:
            connection.close()

    def _failed(self, error: apsw.Error | OSError, where: str) -> None:
        _log.warning("SQLite: the journal could not be shortened%s: %s", where, error)
        if isinstance(error, OSError) or getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_FSYNC:
            self._kept = True
            _log.error("SQLite: the database could not be synced; the journal is kept, and grows, until the next start")

    def _prepare(self, connection: apsw.Connection) -> None:
        for _ in range(_PASSES):
            moved = _checkpoint_beside(connection)
            os.fdatasync(self._descriptor)  # SQLite syncs it only when nothing is left
            if self._pages - moved < _LITTLE:
                break


def _connect(path: str) -> apsw.Connection:
    connection = schema.connect_reader(path)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # one that has read nothing moves nothing
    return connection


def _checkpoint(connection: apsw.Connection) -> int:
    """Move what can be moved without waiting for anybody; how many pages of the journal are in the database then."""
    _, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return moved


def _checkpoint_beside(connection: apsw.Connection) -> int:
    """The same beside the writer, a commit of which may have the head of the journal's index in hand.

    Then none are known to be. That is one time in a hundred, measured with commits and checkpoints that never pause.
    """
    try:
        return _checkpoint(connection)
    except apsw.BusyError:
        return 0
