"""What stands between SQLite and the disk in a process under test: it notes what is done, and lets it fail."""

import errno
import os
import random
from enum import IntEnum
from pathlib import Path
from typing import Final

import apsw

from tests.reliability.dial import Dial
from tests.reliability.trace import DATABASE, FILES, WAL, Kind, Trace

_fdatasync: Final = os.fdatasync
_BASE: Final = "unix"
_SOME: Final = 0.05


class Trouble(IntEnum):
    """What the disk cannot do."""

    NONE = 0
    FULL = 1  # no file grows
    DATABASE_FULL = 2  # the database does not, so that no checkpoint ends and the log grows
    WRITES = 3
    LOG_SYNCS = 4
    DATABASE_SYNCS = 5
    SOME_WRITES = 6
    SOME_SYNCS = 7


class ShimVFS(apsw.VFS):
    """The one of the system but for the files of one database. Of one kind `unsynced`, it only says that it syncs."""

    def __init__(self, path: str, trouble: Dial | None, trace: Path | None, unsynced: str | None = None) -> None:
        super().__init__("shim", _BASE, makedefault=True)
        self._names = {os.path.realpath(path) + file: file for file in FILES}
        self._trouble = trouble
        self._trace = None if trace is None else Trace(trace)
        self._unsynced = unsynced
        self._dice = random.Random(os.getpid())

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 (a name of apsw)
        file = name.filename() if isinstance(name, apsw.URIFilename) else name
        if file not in self._names:
            return apsw.VFSFile(_BASE, name, flags)
        return _File(name, flags, self, self._names[file])

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 (a name of apsw)
        if filename in self._names:
            self.note(Kind.DELETE, self._names[filename])
        super().xDelete(filename, syncdir)

    def fdatasync(self, descriptor: int) -> None:
        """What the engine calls besides SQLite."""
        file = self._names.get(os.readlink(f"/proc/self/fd/{descriptor}"))
        if file is not None and not self.may_sync(file):
            self.note(Kind.FAILED_SYNC, file)
            raise OSError(errno.EIO, "planted")
        _fdatasync(descriptor)
        if file is not None:
            self.note(Kind.SYNC, file)

    def note(self, kind: Kind, file: str, offset: int = 0, data: bytes = b"") -> None:
        if self._trace is not None and not (kind is Kind.SYNC and file == self._unsynced):
            self._trace.note(kind, file, offset, data)

    def close(self) -> None:
        if self._trace is not None:
            self._trace.close()

    def room_for(self, file: str, size: int, end: int) -> bool:
        """Whether a file of this size can be written to the end."""
        full = {Trouble.FULL: True, Trouble.DATABASE_FULL: file == DATABASE}
        return end <= size or not full.get(self._now(), False)

    def may_write(self) -> bool:
        return not self._fails(Trouble.WRITES, Trouble.SOME_WRITES)

    def may_sync(self, file: str) -> bool:
        return not self._fails(Trouble.LOG_SYNCS if file == WAL else Trouble.DATABASE_SYNCS, Trouble.SOME_SYNCS)

    def _fails(self, always: Trouble, sometimes: Trouble) -> bool:
        now = self._now()
        return now is always or (now is sometimes and self._dice.random() < _SOME)

    def _now(self) -> Trouble:
        return Trouble.NONE if self._trouble is None else Trouble(self._trouble.get())


class _File(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], vfs: ShimVFS, file: str) -> None:
        super().__init__(_BASE, name, flags)
        self._vfs = vfs
        self._file = file

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 (a name of apsw)
        room, may_write = self._vfs.room_for(self._file, self.xFileSize(), offset + len(data)), self._vfs.may_write()
        self._write(data if room and may_write else data[: len(data) // 2], offset)
        if not room:
            raise apsw.FullError("no room")
        if not may_write:
            raise _io_error(apsw.SQLITE_IOERR_WRITE)

    def _write(self, data: bytes, offset: int) -> None:
        self._vfs.note(Kind.WRITE, self._file, offset, data)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 (a name of apsw)
        self._vfs.note(Kind.TRUNCATE, self._file, newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 (a name of apsw)
        if not self._vfs.may_sync(self._file):
            self._vfs.note(Kind.FAILED_SYNC, self._file)
            raise _io_error(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        self._vfs.note(Kind.SYNC, self._file)


def _io_error(code: int) -> apsw.IOError:
    error = apsw.IOError("planted")
    error.extendedresult = code
    return error
