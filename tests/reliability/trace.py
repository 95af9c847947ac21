"""What a process has told the disk to do, in order, and what a power cut can leave of it.

Until a sync of the file has succeeded, a write may be on the disk, or not, or in part: sector by sector, whatever was
written before or after it. After a sync that failed nobody knows whether what was written before it will ever be
there, as the system may take it for written. The shared memory of SQLite is on no disk.
"""

import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

SECTOR: Final = 512
DATABASE, WAL, JOURNAL = "", "-wal", "-journal"
FILES: Final = (DATABASE, WAL, JOURNAL)
_HEAD: Final = struct.Struct("<dBBQQ")


class Kind(IntEnum):
    WRITE = 0
    TRUNCATE = 1
    SYNC = 2
    FAILED_SYNC = 3
    DELETE = 4


@dataclass(frozen=True, slots=True)
class Operation:
    """Of one file; a sync has been noted once it was done, all else before it was begun."""

    moment: float  # ms since the epoch
    kind: Kind
    file: str
    offset: int = 0  # of a truncation the size
    data: bytes = b""


class Trace:
    """Notes operations in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def note(self, kind: Kind, file: str, offset: int = 0, data: bytes = b"") -> None:
        head = _HEAD.pack(time.time() * 1000, kind, FILES.index(file), offset, len(data))
        self._file.write(head + data)

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[Operation]:
    """What was noted; of a process that was killed the last may be missing."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            moment, kind, number, offset, length = _HEAD.unpack(head)
            if len(data := file.read(length)) < length:
                return
            yield Operation(moment, Kind(kind), FILES[number], offset, data)


class Disk:
    """What a disk has for certain, and what is under way to it."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._certain: dict[str, bytearray] = {}
        self._pending: dict[str, list[Operation]] = {}
        self._new: set[str] = set()  # files whose directory was not synced since they were made
        self._gone: dict[str, bytes] = {}  # files that were deleted since it was synced

    def apply(self, operation: Operation) -> None:
        """Take the next operation."""
        name, pending = operation.file, self._pending.setdefault(operation.file, [])
        match operation.kind:
            case Kind.WRITE | Kind.TRUNCATE:
                if name not in self._certain:
                    self._certain[name] = bytearray()
                    self._new.add(name)
                    self._gone.pop(name, None)
                pending.append(operation)
            case Kind.SYNC:
                for one in pending:
                    _carry_out(self._certain[name], one)
                pending.clear()
                if name in self._new and name != DATABASE:  # SQLite syncs the directory with a new journal
                    self._new.discard(name)
                    self._gone.clear()
            case Kind.FAILED_SYNC:
                self._pending[name] = [one for one in pending if not self._forgotten(one)]
            case Kind.DELETE:
                self._gone[name] = bytes(self._left(name))
                self._certain.pop(name, None)
                pending.clear()

    def _forgotten(self, operation: Operation) -> bool:
        """Whether a write before a failed sync is under way no more: it has come about, or never will."""
        fate = self._dice.random()
        if fate < 0.3:
            _carry_out(self._certain[operation.file], operation)
        return fate < 0.7

    def cut(self, path: Path) -> None:
        """Write the files as a power cut may leave them now."""
        for name in self._certain:
            path.with_name(path.name + name).write_bytes(self._left(name))
        for name, content in self._gone.items():
            if name not in self._certain and self._dice.random() < 0.5:
                path.with_name(path.name + name).write_bytes(content)

    def _left(self, name: str) -> bytearray:
        left, pending = bytearray(self._certain.get(name, b"")), self._pending.get(name, [])
        arrived = self._dice.randint(0, len(pending))
        manner = self._dice.choice(("nothing", "all", "some", "sectors", "in order"))
        for place, one in enumerate(pending):
            whole = {
                "nothing": False,
                "all": True,
                "in order": place < arrived,
            }.get(manner, self._dice.random() < 0.5)
            if manner == "sectors" or (manner == "in order" and place == arrived):
                self._tear(left, one)
            elif whole:
                _carry_out(left, one)
        return left

    def _tear(self, content: bytearray, operation: Operation) -> None:
        """Carry out some sectors of an operation."""
        begin, end = operation.offset, operation.offset + len(operation.data)
        if operation.kind is Kind.TRUNCATE and self._dice.random() < 0.5:
            _carry_out(content, operation)
        while begin < end:
            until = min(end, (begin // SECTOR + 1) * SECTOR)
            if self._dice.random() < 0.5:
                part = operation.data[begin - operation.offset : until - operation.offset]
                _carry_out(content, Operation(operation.moment, Kind.WRITE, operation.file, begin, part))
            begin = until


def _carry_out(content: bytearray, operation: Operation) -> None:
    if operation.kind is Kind.TRUNCATE:
        del content[operation.offset :]
        content.extend(bytes(operation.offset - len(content)))
        return
    if len(content) < operation.offset:
        content.extend(bytes(operation.offset - len(content)))
    content[operation.offset : operation.offset + len(operation.data)] = operation.data
