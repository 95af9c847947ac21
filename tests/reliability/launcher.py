"""`ratus` on a disk or with a clock that are not to be trusted: `python -m tests.reliability.launcher serve …`.

The environment says which; what is not named there is as it is. The process that writes gets the disk; it is started
from here too, with `writer` as the first argument.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import ratus.cli
from ratus.engines.sqlite import apart, schema, writer
from tests.reliability.dial import Dial
from tests.reliability.shim import ShimVFS

PROGRAM: Final = (sys.executable, "-m", "tests.reliability.launcher")
DISK: Final = "TEST_DISK"  # path of the database whose files get a shim
JOURNAL_BYTES: Final = "TEST_JOURNAL_BYTES"  # of the log of SQLite between checkpoints
TROUBLE: Final = "TEST_TROUBLE"  # file of a dial
TRACE: Final = "TEST_TRACE"  # file for all that is done
UNSYNCED: Final = "TEST_UNSYNCED"  # the kind of file of which syncs do nothing
CLOCK: Final = "TEST_CLOCK"  # file of a dial: how many ns the clock is ahead


def main() -> None:
    settings = os.environ
    if CLOCK in settings:
        _turn_clock(Dial(Path(settings[CLOCK])))
    match sys.argv:
        case [_, "writer", descriptor, path]:
            if JOURNAL_BYTES in settings:
                schema.WAL_BYTES = int(settings[JOURNAL_BYTES])
            shim = _shim(settings) if DISK in settings else None  # which SQLite uses as long as it lives
            writer.main(int(descriptor), path)
            del shim
        case _:
            apart.PROGRAM = (*PROGRAM, "writer")
            ratus.cli.main()


def _shim(settings: Mapping[str, str]) -> ShimVFS:
    trouble = Dial(Path(settings[TROUBLE])) if TROUBLE in settings else None
    trace = Path(settings[TRACE]) if TRACE in settings else None
    shim = ShimVFS(settings[DISK], trouble, trace, settings.get(UNSYNCED))
    os.fdatasync = shim.fdatasync
    return shim


def _turn_clock(dial: Dial) -> None:
    """Let the clock of this process, not its timers, be ahead by what a dial says."""
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + dial.get() / 1e9
    time.time_ns = lambda: nanoseconds() + dial.get()


if __name__ == "__main__":
    main()
