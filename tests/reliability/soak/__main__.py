"""A soak with all that can be chosen.

`python -m tests.reliability.soak [--seconds 1800] [--every 120] [--engine sqlite|mongodb] [--members 1] [--output DIR]`
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.reliability.soak.run import RESULTS, Plan, soak


def main() -> None:
    """Run it; the exit status tells whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="how long")
    parser.add_argument("--every", type=float, default=Plan.every, help="seconds between faults")
    parser.add_argument("--engine", choices=["sqlite", "mongodb"], default=Plan.engine)
    parser.add_argument("--members", type=int, default=Plan.members, help="of the replica set of MongoDB")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="of the dice")
    parser.add_argument("--capacity-seconds", type=float, default=Plan.capacity_seconds, help="how long it is measured")
    parser.add_argument("--interval", type=float, default=Plan.interval, help="seconds between samples")
    parser.add_argument("--retention", type=int, default=Plan.retention, help="seconds that completed tasks are kept")
    parser.add_argument("--output", type=Path, help=f"directory for samples, picture and report ({RESULTS}/ENGINE)")
    options = vars(parser.parse_args())
    options["output"] = options["output"] or RESULTS / options["engine"]
    chosen = Plan(**options)
    print(chosen, flush=True)
    with tempfile.TemporaryDirectory(prefix="ratus-soak-") as directory:
        report = asyncio.run(soak(Path(directory), chosen))
    print(report, flush=True)
    sys.exit(bool(report.findings))


if __name__ == "__main__":
    main()
