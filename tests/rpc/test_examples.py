"""The example consumers, each as a process of its own."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from ratus.v1 import topic_service_pb2 as topics
from ratus.v1.task_pb2 import Task
from tests.rpc.serving import Client, Running, insert, waiting
from tests.server import Server

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


async def node_script(name: str) -> Path:
    """An example with its packages installed beside it, where it finds the .proto files two folders up."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        message = "node and npm are needed to run examples/node"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with _locked(NODE_CACHE.with_suffix(".lock")):
        await _install()
        folder = NODE_CACHE / "examples" / "node"
        folder.mkdir(parents=True, exist_ok=True)
        for script in NODE_EXAMPLE.glob("*.js"):
            shutil.copy(script, folder)
        protos = NODE_CACHE / "proto"
        if not protos.is_symlink():
            protos.symlink_to(ROOT / "proto")
    return folder / name


@pytest.mark.timeout(300)
async def test_the_node_consumer(running: Running, client: Any) -> None:
    await consume(running, client, "node", str(await node_script("poll.js")))


@contextlib.asynccontextmanager
async def node_worker(target: str, *args: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The worker as a process, killed in the end if need be."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(await node_script("worker.js")),
        target,
        "t",
        *args,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def settle(process: asyncio.subprocess.Process, settled: dict[bytes, list[bytes]], number: int) -> None:
    """Read until the worker has settled so many different tasks; what it has said about each.

    Those that are lost, as a start took longer than their promises, come again.
    """
    assert process.stdout is not None
    while len(settled) < number:
        line = await process.stdout.readline()
        assert line, "the worker has ended"
        outcome, id = line.split()
        if outcome != b"lost":
            settled.setdefault(id, []).append(outcome)


@pytest.mark.timeout(300)
async def test_the_node_worker_survives_restarts_of_the_server(tmp_path: Path) -> None:
    settled: dict[bytes, list[bytes]] = {}
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        async with Client(server.target) as client, node_worker(server.target, TIMEOUT_MS="4000") as process:
            await insert(client, *(Task(id=str(n), topic="t", payload=b'{"ms": 5}') for n in range(300)))
            async with asyncio.timeout(200):
                await settle(process, settled, 60)
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                await settle(process, settled, 160)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                await settle(process, settled, 300)
                process.terminate()
                _, errors = await process.communicate()
        assert process.returncode == 0
        assert all(line.startswith(b"connecting again in ") for line in errors.splitlines()), errors
        # What was on its way when the server was killed came again at its deadline; nothing was completed twice.
        assert {outcome for outcomes in settled.values() for outcome in outcomes} <= {b"done", b"settled"}
        assert all(outcomes.count(b"done") <= 1 for outcomes in settled.values())
        async with Client(server.target) as client:
            stats = await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic="t"))
        assert (stats.completed, stats.active, stats.pending) == (300, 0, 0)


@pytest.mark.timeout(300)
async def test_the_node_worker_keeps_to_its_concurrency_over_a_restart(tmp_path: Path) -> None:
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        async with Client(server.target) as client, node_worker(server.target), asyncio.timeout(200):
            await insert(client, *(Task(id=f"{n:02}", topic="t", payload=b'{"ms": 4000}') for n in range(60)))
            await settled_on(client, active=20)
            await asyncio.to_thread(server.stop)  # which leaves them with the worker
            await asyncio.to_thread(server.start)
            most = 0
            request = topics.GetTopicStatsRequest(topic="t")
            while (stats := await client.topics.GetTopicStats(request, wait_for_ready=True)).completed < 40:
                most = max(most, stats.active)
    assert most <= 21  # a window is never smaller than one


async def test_the_node_worker_gives_back_what_it_did_not_begin(running: Running, client: Any) -> None:
    await insert(client, *(Task(id=f"{n:02}", topic="t", payload=b'{"ms": 1500}') for n in range(200)))
    async with node_worker(running.target) as process, asyncio.timeout(60):
        first = await process.stdout.readline()  # it has received and begun what it may
        process.terminate()
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    done = [first.rstrip(), *output.splitlines()]
    assert len(set(done)) == len(done) >= 20  # what it had begun, and no more on a machine that is not busy
    assert all(line.startswith(b"done ") for line in done)
    await settled_on(client, completed=len(done), active=0, pending=200 - len(done))


async def settled_on(client: Any, **counts: int) -> None:
    """Return once the counts of the topic are these; each look is a round trip."""
    while True:
        stats = await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic="t"))
        if all(getattr(stats, name) == count for name, count in counts.items()):
            return


async def test_the_node_worker_extends_counts_and_gives_failures_back(running: Running, client: Any) -> None:
    long = Task(id="long", topic="t", payload=b'{"ms": 4500}')  # longer than its promise
    await insert(client, Task(id="bad", topic="t", payload=b'{"ms": "soon"}'), long)
    async with node_worker(running.target, "2", TIMEOUT_MS="3000") as process, asyncio.timeout(60):
        output, errors = await process.communicate()
    assert sorted(output.splitlines()) == [b"done bad", b"done long"]
    assert errors.startswith(b"bad has failed: ")
    stats = await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic="t"))
    assert (stats.completed, stats.active, stats.pending, stats.due) == (1, 0, 1, 0)
