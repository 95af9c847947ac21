"""REST: how many requests are served a second, in equal parts inserts, claims and commits?"""

import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.contenders import Contender, Failed, Missing, Run, Section, compare
from bench.results import Row
from bench.setup import DURABLE, MEMORY, REPLICA_SET, SQLITE, STANDALONE, Bench, bare

SCRIPT: Final = Path(__file__).with_name("cycle.lua")
CONNECTIONS: Final = 32
SECTION: Final = Section(f"REST: insert, claim and commit in equal parts, {CONNECTIONS} connections", "requests/s")
REFUSED: Final = 0.05  # more than what is claimed before it is inserted is a fault


def drive(url: str, seconds: float) -> float:
    """Requests a second."""
    if shutil.which("wrk") is None:
        raise Missing("apt-get install wrk")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    if not rate or not count or (refused and int(refused[1]) > REFUSED * int(count[1])):
        raise Failed(" ".join(output.split()))
    return float(rate[1])


def contender(bench: Bench, engine: str) -> Contender:
    """Our server on an engine."""

    def start(stack: ExitStack) -> Run:
        if shutil.which("wrk") is None:
            raise Missing("apt-get install wrk")
        server = bench.queue(engine).serve(stack)
        return lambda: [drive(server.url, bench.seconds)]

    return Contender(engine, start, note=DURABLE[engine])


def measure(bench: Bench) -> list[Row]:
    """All engines, and the floor."""

    def floor(stack: ExitStack) -> Run:
        if shutil.which("wrk") is None:
            raise Missing("apt-get install wrk")
        port = bare(stack, "uvicorn")
        return lambda: [drive(f"http://127.0.0.1:{port}", bench.seconds)]

    engines = (MEMORY, SQLITE, STANDALONE, REPLICA_SET)
    contenders = [Contender("floor: bare uvicorn", floor), *(contender(bench, engine) for engine in engines)]
    return compare([SECTION], contenders, bench.runs)
