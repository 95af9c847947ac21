"""What a power cut can leave of a file, by what was done to it."""

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.reliability.trace import DATABASE, JOURNAL, SECTOR, WAL, Disk, Kind, Operation, Trace, read

OLD, NEW = b"o" * 2 * SECTOR, b"n" * 2 * SECTOR


def write(data: bytes, offset: int = 0, file: str = WAL) -> Operation:
    return Operation(0, Kind.WRITE, file, offset, data)


def sync(file: str = WAL, kind: Kind = Kind.SYNC) -> Operation:
    return Operation(0, kind, file)


def left(operations: Sequence[Operation], directory: Path, file: str = WAL) -> set[bytes | None]:
    """All that many cuts leave."""
    found: set[bytes | None] = set()
    for seed in range(200):
        disk = Disk(random.Random(seed))
        for operation in operations:
            disk.apply(operation)
        path = directory / "q.db"
        path.with_name(path.name + file).unlink(missing_ok=True)
        disk.cut(path)
        name = path.with_name(path.name + file)
        found.add(name.read_bytes() if name.exists() else None)
    return found


def test_what_was_synced_stays(tmp_path: Path) -> None:
    assert left([write(OLD), sync()], tmp_path) == {OLD}


def test_what_was_not_synced_is_lost_or_torn_or_there(tmp_path: Path) -> None:
    torn = {a + b for a in (OLD[:SECTOR], NEW[:SECTOR]) for b in (OLD[:SECTOR], NEW[:SECTOR])}
    assert left([write(OLD), sync(), write(NEW)], tmp_path) == torn


def test_a_later_write_may_arrive_before_an_earlier_one(tmp_path: Path) -> None:
    later = bytes(SECTOR) + NEW[:SECTOR]
    assert later in left([write(OLD[:SECTOR]), write(NEW[:SECTOR], SECTOR)], tmp_path)


def test_the_sync_of_another_file_keeps_nothing(tmp_path: Path) -> None:
    assert b"" in left([write(OLD), sync(DATABASE)], tmp_path)


def test_after_a_failed_sync_no_other_helps(tmp_path: Path) -> None:
    found = left([write(OLD), sync(), write(NEW), sync(kind=Kind.FAILED_SYNC), sync()], tmp_path)
    assert found == {OLD, NEW}
    assert left([write(NEW), sync(kind=Kind.FAILED_SYNC), write(NEW), sync()], tmp_path) == {NEW}


def test_a_truncation_may_not_have_arrived(tmp_path: Path) -> None:
    assert left([write(OLD), sync(), Operation(0, Kind.TRUNCATE, WAL, 10)], tmp_path) == {OLD, OLD[:10]}


@pytest.mark.parametrize(("more", "found"), [((), {None, OLD}), ((write(NEW), sync()), {None})])
def test_a_deleted_file_may_be_back(more: Sequence[Operation], found: set[bytes | None], tmp_path: Path) -> None:
    deleted = [write(OLD, file=JOURNAL), sync(JOURNAL), Operation(0, Kind.DELETE, JOURNAL)]
    assert left([*deleted, *more], tmp_path, JOURNAL) == found


def test_a_trace_tells_what_was_noted(tmp_path: Path) -> None:
    with contextlib.closing(Trace(tmp_path / "trace")) as trace:
        trace.note(Kind.WRITE, WAL, 7, b"data")
        trace.note(Kind.SYNC, DATABASE)
    noted = [(one.kind, one.file, one.offset, one.data) for one in read(tmp_path / "trace")]
    assert noted == [(Kind.WRITE, WAL, 7, b"data"), (Kind.SYNC, DATABASE, 0, b"")]
    cut = (tmp_path / "trace").read_bytes()[:-10]  # of a process that was killed while it noted
    (tmp_path / "trace").write_bytes(cut)
    assert [one.kind for one in read(tmp_path / "trace")] == [Kind.WRITE]
