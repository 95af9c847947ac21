"""Copies of the file while it is in use, for backups."""

import asyncio
import logging
import os
import tempfile
import threading
from typing import BinaryIO, Final

import apsw

from ratus.engines.sqlite import schema
from ratus.errors import StorageUnavailable

_PAGES: Final = 1000  # copied between two looks whether the copy is still wanted

_log: Final = logging.getLogger(__name__)


class Copies:
    """Makes copies in threads of their own, each through a connection of its own.

    A copy is what one read transaction sees, so that it is consistent and nobody waits for it; meanwhile the WAL cannot
    start anew, and grows with what is written. The copy is made on disk first, beside the database where there is
    room for it, as a client that takes it slowly must not prolong this.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads: set[asyncio.Task[BinaryIO]] = set()
        self._closing = threading.Event()

    async def make(self) -> BinaryIO:
        """A copy in a file without a name; StorageUnavailable if the disk has no room or fails."""
        stop = threading.Event()
        thread = asyncio.create_task(asyncio.to_thread(self._make, stop))
        self._threads.add(thread)
        thread.add_done_callback(self._ended)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            stop.set()
            thread.add_done_callback(_close_result)
            raise

    async def close(self) -> None:
        """Stop what is being copied."""
        self._closing.set()
        if self._threads:
            await asyncio.wait(self._threads)

    def _ended(self, thread: "asyncio.Task[BinaryIO]") -> None:
        self._threads.discard(thread)
        if not thread.cancelled():
            thread.exception()  # it is the caller's, or nobody's once the caller is gone

    def _make(self, stop: threading.Event) -> BinaryIO:
        try:
            descriptor, name = tempfile.mkstemp(
                prefix=".ratus-backup-", dir=os.path.dirname(os.path.abspath(self._path))
            )
            copy = os.fdopen(descriptor, "rb")
            try:
                self._fill(name, stop)
            except BaseException:
                copy.close()
                raise
        except (apsw.Error, OSError) as error:
            _log.error("SQLite: backup: %s: %s", type(error).__name__, error)
            raise StorageUnavailable(f"the copy could not be written: {error}") from error
        return copy

    def _fill(self, name: str, stop: threading.Event) -> None:
        try:
            target = apsw.Connection(name)
        finally:
            os.unlink(name)  # so that nothing is left behind, in whatever way this process ends
        try:
            target.pragma("journal_mode", "off")
            target.pragma("synchronous", 0)
            source = schema.connect_reader(self._path)
            try:
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # from here on it sees no changes
                with target.backup("main", source, "main") as backup:
                    while not backup.done:
                        if stop.is_set() or self._closing.is_set():
                            raise StorageUnavailable("the copy was stopped")
                        backup.step(_PAGES)
            finally:
                source.close()
        finally:
            target.close()


def _close_result(thread: "asyncio.Task[BinaryIO]") -> None:
    if not thread.cancelled() and thread.exception() is None:
        thread.result().close()
