"""The example consumers, each as a process of its own."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from ratus.v1 import topic_service_pb2 as topics
from ratus.v1.task_pb2 import Task
from tests.rpc.serving import Running, insert, waiting

ROOT = Path(__file__).parents[2]
NODE_EXAMPLE = ROOT / "examples" / "node"
NODE_CACHE = ROOT / ".cache" / "example-node"


async def consume(running: Running, client: Any, *command: str, cwd: Path = ROOT) -> None:
    """Run a consumer for three tasks: one that is there, one that comes, one that is scheduled."""
    await insert(client, Task(id="first", topic="greetings", payload=b'{"hello":"world"}'))
    process = await asyncio.create_subprocess_exec(
        *command,
        running.target,
        "greetings",
        "3",
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b'first {"hello":"world"}\n'
            await waiting(client, "greetings", 1)
            await insert(
                client,
                Task(id="second", topic="greetings", payload=b"2"),
                Task(id="third", topic="greetings", payload=b"3", defer=Duration(nanos=100_000_000)),
            )
            output, errors = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert (output, errors, process.returncode) == (b"second 2\nthird 3\n", b"", 0)
    stats = await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic="greetings"))
    assert (stats.completed, stats.active, stats.pending) == (3, 0, 0)


async def test_the_python_consumer(running: Running, client: Any) -> None:
    await consume(running, client, sys.executable, "examples/python/poll.py")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other test runs out meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def _install() -> None:
    """`npm ci` into a directory that is kept, unless the lock file is the one of the last time."""
    lock = (NODE_EXAMPLE / "package-lock.json").read_bytes()
    stamp = NODE_CACHE / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_bytes() != lock:
        NODE_CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE_EXAMPLE / name, NODE_CACHE)
        npm = await asyncio.create_subprocess_exec(
            "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=NODE_CACHE
        )
        assert await npm.wait() == 0
        stamp.write_bytes(lock)


@pytest.mark.timeout(300)
async def test_the_node_consumer(running: Running, client: Any) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        message = "node and npm are needed to run examples/node"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with _locked(NODE_CACHE.with_suffix(".lock")):
        await _install()
    # The script finds its packages beside itself, and the .proto files two folders up.
    script = NODE_CACHE / "examples" / "node" / "poll.js"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(NODE_EXAMPLE / "poll.js", script)
    protos = NODE_CACHE / "proto"
    if not protos.is_symlink():
        protos.symlink_to(ROOT / "proto")
    await consume(running, client, "node", str(script))
