"""Measure and tell: one table, kept as JSON, and drawn.

`python -m bench` takes some minutes; `--full` takes the sizes and the time that published figures need.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench import batches, growth, late, peers, picture, rest, streams, unary
from bench.about import about
from bench.contenders import has_failed, say
from bench.results import Row, save, table
from bench.setup import Bench

SECTIONS: Final[dict[str, Callable[[Bench], list[Row]]]] = {
    "rest": rest.measure,
    "unary": unary.measure_cycle,
    "batches": batches.measure,
    "alone": unary.measure_alone,
    "peers": peers.measure,
    "late": late.measure,
    "streams": streams.measure,
    "growth": growth.measure,
}
ONLY_FULL: Final = ("late", "streams")  # that is, or asked for
RESULTS: Final = Path(__file__).with_name("results")
FULL_SECONDS: Final = 5.0
FULL_RUNS: Final = 5
FULL_STORED: Final = 10_000_000


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; those that are not given follow from `--full`."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--full", action="store_true", help="more and longer runs, and millions of stored tasks")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seconds", type=float, help="of a run")
    parser.add_argument("--stored", type=int, help="tasks in a store that is large")
    parser.add_argument("--picture", type=Path, help="where to draw, .svg or .png")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a directory for what was measured")
    parser.add_argument("--directory", type=Path, default=Path(), help="where the databases go; on a real disk")
    options = parser.parse_args(arguments)
    for name in set(options.sections) - set(SECTIONS):
        parser.error(f"no section {name}")
    return options


def bench(options: argparse.Namespace, directory: Path, stack: contextlib.ExitStack) -> Bench:
    """How to measure."""
    full = {"runs": FULL_RUNS, "seconds": FULL_SECONDS, "stored": FULL_STORED} if options.full else {}
    given = {name: getattr(options, name) for name in ("runs", "seconds", "stored")}
    return Bench(directory, stack, **{**full, **{name: value for name, value in given.items() if value is not None}})


def sections(*, full: bool) -> list[str]:
    """Those that are measured when none is named."""
    return [name for name in SECTIONS if full or name not in ONLY_FULL]


def main(arguments: Sequence[str]) -> int:
    """Measure, print, keep, draw; 1 if a contender has failed."""
    options = parse(arguments)
    told, rows = about(), list[Row]()
    options.results.mkdir(exist_ok=True)
    kept = options.results / f"{told['date'][:16].replace(' ', '-').replace(':', '')}.json"
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".bench-", dir=options.directory)))
        setup = bench(options, directory.absolute(), stack)
        for name in options.sections or sections(full=options.full):
            rows += SECTIONS[name](setup)
            save(kept, told, rows)
    drawn = options.picture or kept.with_suffix(".svg")
    picture.draw(drawn, told, rows)
    print("\n".join((*told.values(), "", table(rows))))
    say(f"kept in {kept}, drawn in {drawn}")
    return int(has_failed(rows))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    sys.exit(main(sys.argv[1:]))
