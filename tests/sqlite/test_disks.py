"""The SQLite engine on a disk that is full or fails."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from ratus.errors import StorageUnavailable
from tests.reliability.dial import Dial
from tests.reliability.shim import ShimVFS, Trouble
from tests.sqlite.test_files import opened, task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "q.db"


@pytest.fixture
def disk(path: Path) -> Iterator[Dial]:
    """What the disk cannot do now."""
    dial = Dial(path.with_name("trouble"))
    vfs = ShimVFS(str(path), dial, None)
    yield dial
    vfs.unregister()


@pytest.mark.parametrize("trouble", [Trouble.WRITES, Trouble.SYNCS])
async def test_what_was_not_written_is_not_acknowledged_and_nothing_has_to_be_started_anew(
    path: Path, disk: Dial, trouble: Trouble
) -> None:
    engine = await opened(path)
    assert await engine.insert([task("1")]) == [True]
    disk.set(trouble)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await engine.insert([task("2")])
    with pytest.raises(StorageUnavailable):
        await engine.delete("1")
    assert (await engine.get("1")).id == "1"
    disk.set(Trouble.NONE)
    assert await engine.insert([task("1"), task("2")]) == [False, True]
    await engine.close()
    engine = await opened(path)
    assert [one.id for one in await engine.list_tasks("t", "", 0, 10)] == ["1", "2"]
    await engine.close()


async def test_a_start_on_a_full_disk_serves_what_is_there_and_goes_on_once_there_is_room(
    path: Path, disk: Dial
) -> None:
    engine = await opened(path)
    await engine.insert([task("1")])
    await engine.close()
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE filler (bytes BLOB)")  # as a start does that found no room for more
    db.close()
    disk.set(Trouble.FULL)
    engine = await opened(path)
    assert (await engine.get("1")).id == "1"
    with pytest.raises(StorageUnavailable):
        await engine.insert([task("2")])
    disk.set(Trouble.NONE)
    assert await engine.insert([task("2")]) == [True]
    await engine.close()
