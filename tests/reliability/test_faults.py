"""The short form: each part of the long form, with few rounds."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import need_mongod
from tests.reliability.__main__ import kills_mongodb, kills_sqlite
from tests.reliability.backups import backups_mongodb, backups_sqlite
from tests.reliability.clocks import clock_jumps
from tests.reliability.consumers import consumers_mongodb, consumers_sqlite
from tests.reliability.databases import failing_commands, failovers
from tests.reliability.disk import TROUBLES, disk_full, tmpfs_full
from tests.reliability.kills import power_cuts, writer_kills
from tests.reliability.network import network, partitions
from tests.reliability.report import Report
from tests.reliability.rolling import rolling, workers
from tests.reliability.soak.run import Plan, soak
from tests.reliability.torn import torn_writes
from tests.reliability.trace import DATABASE, WAL

SEED = 6
SHORT_SECONDS = (2.0, 3.0)  # of a fault that takes its time

pytestmark = pytest.mark.timeout(300)


def assert_sound(report: Report, faults: int) -> None:
    assert report.faults.total() == faults
    assert report.committed > 0
    assert report.findings == [], str(report)


async def test_kills_of_a_server_on_sqlite(tmp_path: Path) -> None:
    assert_sound(await kills_sqlite(tmp_path, 2, SEED), 2)


async def test_kills_of_the_writer(tmp_path: Path) -> None:
    assert_sound(await writer_kills(tmp_path, 3, SEED), 3)


async def test_kills_of_a_server_on_mongodb(tmp_path: Path) -> None:
    need_mongod()
    assert_sound(await kills_mongodb(tmp_path, 1, SEED), 1)


async def test_power_cuts_on_sqlite(tmp_path: Path) -> None:
    assert_sound(await power_cuts(tmp_path, 5, SEED), 5)


async def test_a_failover(tmp_path: Path) -> None:
    need_mongod()
    assert_sound(await failovers(tmp_path, 1, SEED), 1)


async def test_commands_that_fail(tmp_path: Path) -> None:
    need_mongod()
    assert_sound(await failing_commands(tmp_path, 1, SEED, ("update",)), 5)


@pytest.mark.parametrize("engine", ["sqlite", "mongodb"])
async def test_a_soak(tmp_path: Path, engine: str) -> None:
    if engine == "mongodb":
        need_mongod()
    short = Plan(tmp_path / "output", 6, 3, engine, seed=SEED, capacity_seconds=2, interval=1, retention=5)
    assert_sound(await soak(tmp_path, short), 2)
    assert {path.name for path in short.output.iterdir()} == {"samples.ndjson", "soak.svg", "about.json", "report.txt"}


async def test_backups_on_sqlite(tmp_path: Path) -> None:
    report = await backups_sqlite(tmp_path, 2, SEED)
    assert_sound(report, 4)
    assert report.finished > 0


async def test_backups_on_mongodb(tmp_path: Path) -> None:
    need_mongod()
    report = await backups_mongodb(tmp_path, 2, SEED)
    assert_sound(report, 3)
    assert report.finished > 0


async def test_a_network_at_fault(tmp_path: Path) -> None:
    need_mongod()
    ways = ("slow", "cut", "deaf")
    assert_sound(await network(tmp_path, len(ways), SEED, ways, SHORT_SECONDS), len(ways))


async def test_a_partition(tmp_path: Path) -> None:
    need_mongod()
    assert_sound(await partitions(tmp_path, 1, SEED, ("from all",)), 1)


async def test_consumers_on_sqlite(tmp_path: Path) -> None:
    assert_sound(await consumers_sqlite(tmp_path, 4, SEED), 4)


async def test_consumers_on_mongodb(tmp_path: Path) -> None:
    need_mongod()
    assert_sound(await consumers_mongodb(tmp_path, 2, SEED), 2)


async def test_rolling_restarts(tmp_path: Path) -> None:
    need_mongod()
    assert_sound(await rolling(tmp_path, 2, SEED), 2)


async def test_workers_that_are_killed(tmp_path: Path) -> None:
    need_mongod()
    assert_sound(await workers(tmp_path, 2, SEED), 2)


async def test_power_cuts_that_tear_what_was_not_synced(tmp_path: Path) -> None:
    assert_sound(await torn_writes(tmp_path, 10, SEED, cuts=5), 10)


@pytest.mark.parametrize(
    ("unsynced", "rules"),
    [
        # What is left of a log may lack its end, stop in the middle of a task's life, or not fit the database.
        (WAL, {"lost", "undone", "unexplained end", "unsound"}),
        (DATABASE, {"lost", "unsound"}),
    ],
)
async def test_files_that_are_not_synced_are_found(unsynced: str, rules: set[str], tmp_path: Path) -> None:
    report = await torn_writes(tmp_path, 16, SEED, cuts=16, unsynced=unsynced)
    assert {finding.rule for finding in report.findings} & rules


async def test_a_disk_that_is_full_or_fails(tmp_path: Path) -> None:
    assert_sound(await disk_full(tmp_path, len(TROUBLES), SEED), len(TROUBLES))


async def test_a_full_file_system(tmp_path: Path) -> None:
    try:
        report = await tmpfs_full(tmp_path, 1, SEED)
    except subprocess.CalledProcessError:
        pytest.skip("NOT TESTED: only root can mount a small file system to fill")
    assert_sound(report, 1)


async def test_a_clock_that_jumps(tmp_path: Path) -> None:
    assert_sound(await clock_jumps(tmp_path, 2, SEED), 4)
