"""The long form of the tests of reliability, in parts.

`python -m tests.reliability PART [--rounds N] [--seed S]`; the seed is printed and makes the same dice again.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ratus.config import MongoDBSettings
from tests.mongod import standalone
from tests.reliability.backups import backups_mongodb, backups_sqlite
from tests.reliability.clocks import clock_jumps
from tests.reliability.consumers import consumers_mongodb, consumers_sqlite
from tests.reliability.databases import failing_commands, failovers
from tests.reliability.disk import disk_full, tmpfs_full
from tests.reliability.kills import kills, new_server, power_cuts, writer_kills
from tests.reliability.network import network, partitions
from tests.reliability.report import Report
from tests.reliability.rolling import rolling, workers
from tests.reliability.soak.run import soak_part
from tests.reliability.storage import read_mongodb, read_sqlite
from tests.reliability.torn import torn_writes

Part = Callable[[Path, int, int], Coroutine[Any, Any, Report]]


async def kills_sqlite(directory: Path, rounds: int, seed: int) -> Report:
    path = directory / "q.db"
    return await kills(new_server(directory, "--sqlite-path", str(path)), partial(read_sqlite, path), rounds, seed)


async def kills_mongodb(directory: Path, rounds: int, seed: int) -> Report:
    with standalone(within=directory) as mongod:
        server = new_server(directory, "--engine", "mongodb", "--mongodb-uri", mongod.uri)
        return await kills(server, partial(read_mongodb, MongoDBSettings(uri=mongod.uri)), rounds, seed)


@dataclass(frozen=True)
class Long:
    """A part and how often its fault is made unless told otherwise."""

    part: Part
    rounds: int


PARTS = {
    "kills": Long(kills_sqlite, 500),
    "kills-mongodb": Long(kills_mongodb, 200),
    "writer-kills": Long(writer_kills, 500),
    "power-cuts": Long(power_cuts, 200),
    "failovers": Long(failovers, 51),
    "failing-commands": Long(failing_commands, 20),
    "backups": Long(backups_sqlite, 50),
    "backups-mongodb": Long(backups_mongodb, 50),
    "soak": Long(partial(soak_part, "sqlite", 1), 15),
    "soak-mongodb": Long(partial(soak_part, "mongodb", 3), 15),
    "network": Long(network, 80),
    "partitions": Long(partitions, 40),
    "consumers": Long(consumers_sqlite, 100),
    "consumers-mongodb": Long(consumers_mongodb, 100),
    "rolling": Long(rolling, 100),
    "workers": Long(workers, 60),
    "torn-writes": Long(torn_writes, 3000),
    "disk-full": Long(disk_full, 200),
    "tmpfs-full": Long(tmpfs_full, 100),
    "clock-jumps": Long(clock_jumps, 100),
}


def main() -> None:
    """Run parts; the exit status tells whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless given")
    parser.add_argument("--rounds", type=int, help="how often the fault is made")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="of the dice")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    failed = False
    for name in options.parts or PARTS:
        long = PARTS[name]
        rounds = options.rounds or long.rounds
        print(f"{name} --rounds {rounds} --seed {options.seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="ratus-reliability-") as directory:
            report = asyncio.run(long.part(Path(directory), rounds, options.seed))
        print(report, flush=True)
        failed = failed or bool(report.findings)
    sys.exit(failed)


if __name__ == "__main__":
    main()
