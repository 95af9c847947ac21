"""How many REST requests are served a second, in equal parts inserts, claims and commits?

Drives every engine with wrk (one thread, 32 connections), in turn with a bare uvicorn application, which is the floor,
and prints the medians of several runs. Needs wrk (Debian package `wrk`). `python -m bench.rest [SECONDS] [RUNS]`
"""

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.mongod import replica_set, standalone
from tests.ports import free_port
from tests.server import Server

FLOOR = """
import sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"25")]})
        await send({"type": "http.response.body", "body": b'{"created":1,"updated":0}'})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", http="httptools", loop="uvloop", lifespan="off",
            proxy_headers=False, access_log=False)
"""
SCRIPT = Path(__file__).with_name("cycle.lua")


def drive(url: str, seconds: int) -> float:
    """Requests a second."""
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(SCRIPT), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found, output
    return float(found[1])


@contextlib.contextmanager
def floor() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", FLOOR, str(port)])
    try:
        time.sleep(2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def main(seconds: int, runs: int) -> None:
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))

        def serve(*arguments: str) -> Server:
            return stack.enter_context(Server(directory / "log", *arguments))

        mongodb = ["--engine", "mongodb", "--mongodb-uri"]
        servers = {
            "SQLite": serve("--sqlite-path", str(directory / "q.db")),
            "memory": serve("--engine", "memory"),
            "MongoDB, standalone": serve(*mongodb, stack.enter_context(standalone()).uri),
            "MongoDB, replica set of one": serve(*mongodb, stack.enter_context(replica_set())[0].uri),
        }
        idle = {name: psutil.Process(server.process.pid) for name, server in servers.items()}
        for process in idle.values():
            process.cpu_percent()
        time.sleep(5)
        for name, process in idle.items():
            print(
                f"{name:<28} idle: {process.memory_info().rss / 2**20:.0f} MiB, {process.cpu_percent():.1f} % of a core"
            )
        urls = {"floor: bare uvicorn": stack.enter_context(floor())}
        urls |= {name: server.url for name, server in servers.items()}
        rates: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(runs):
            for name, url in urls.items():
                rates[name].append(drive(url, seconds))
        base = statistics.median(rates["floor: bare uvicorn"])
        for name, values in rates.items():
            median = statistics.median(values)
            print(
                f"{name:<28} {median:8,.0f} requests/s (from {min(values):,.0f} to {max(values):,.0f}); "
                f"{median / base:.2f} of the floor"
            )


if __name__ == "__main__":
    main(*[int(argument) for argument in sys.argv[1:]] or [5, 3])
