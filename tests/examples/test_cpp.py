"""The worker in C++: one compiled language, from the same .proto files."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import ratus
from tests.examples.cpp import compiled_worker
from tests.server import Server

pytestmark = pytest.mark.timeout(900)  # compiling takes its time


@contextmanager
def worker(server: Server, topic: str, *args: str, timeout_ms: int = 30_000) -> Iterator[subprocess.Popen[str]]:
    """The worker as a process, killed in the end if need be."""
    process = subprocess.Popen(
        [str(compiled_worker()), server.target, topic, *args],
        env={"TIMEOUT_MS": str(timeout_ms)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def until(queue: ratus.SyncQueue, topic: str, **counts: int) -> None:
    """Return once the counts of the topic are these; each look is a round trip."""
    for _ in range(20_000):
        stats = queue.get_topic_stats(topic)
        if all(getattr(stats, name) == count for name, count in counts.items()):
            return
    raise AssertionError(stats)


def insert(queue: ratus.SyncQueue, topic: str, number: int, ms: int) -> list[str]:
    """Tasks that take so long; their IDs."""
    ids = [f"{topic}-{n:03}" for n in range(number)]
    queue.insert_tasks([ratus.new_task(topic, {"ms": ms}, id=id) for id in ids])
    return ids


def test_it_works_until_it_has_done_enough(server: Server) -> None:
    with ratus.connect_sync(server.target) as queue:
        queue.insert("t", id="one")
        queue.insert("t", {"ms": 1}, id="two", defer="200ms")
        with worker(server, "t", "2") as process:
            output, errors = process.communicate(timeout=30)
        assert (sorted(output.splitlines()), errors, process.returncode) == (["done one", "done two"], "", 0)
        until(queue, "t", completed=2)


def test_it_gives_failures_back_and_extends(server: Server) -> None:
    with ratus.connect_sync(server.target) as queue:
        queue.insert("u", {"ms": "soon"}, id="bad")
        queue.insert("u", "text", id="worse")
        queue.insert("u", {"ms": 3000}, id="long")
        with worker(server, "u", "1", timeout_ms=2000) as process:
            output, errors = process.communicate(timeout=30)
        assert (output, process.returncode) == ("done long\n", 0)
        assert sorted(errors.splitlines()) == [
            "bad has failed: ms is no number",
            "worse has failed: the payload is no JSON object",
        ]
        until(queue, "u", completed=1, pending=2, due=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finishes_what_it_has_begun_and_gives_back_the_rest(server: Server, number: signal.Signals) -> None:
    topic = number.name
    with ratus.connect_sync(server.target) as queue:
        ids = insert(queue, topic, 200, 500)
        with worker(server, topic, timeout_ms=2000) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = [process.stdout.readline()]
            process.send_signal(number)
            lines += process.stdout.readlines()
            assert (process.stderr.read(), process.wait(30)) == ("", 0)
        done = [line.removeprefix("done ").rstrip() for line in lines]
        assert set(done) <= set(ids)
        assert len(set(done)) == len(done) < len(ids)
        # What was on its way to it when it hung up comes back at its deadline.
        until(queue, topic, completed=len(done), pending=len(ids) - len(done), active=0)


def test_a_refusal_is_an_end(server: Server) -> None:
    with worker(server, "t", timeout_ms=0) as process:
        output, errors = process.communicate(timeout=30)
    assert (output, process.returncode) == ("", 1)
    assert "timeout" in errors


def test_it_survives_restarts_of_the_server(server: Server) -> None:
    settled: dict[str, list[str]] = {}
    with ratus.connect_sync(server.target) as queue, worker(server, "t", timeout_ms=4000) as process:
        insert(queue, "t", 300, 5)
        assert process.stdout is not None
        for number, end in ((60, server.stop), (160, server.kill), (300, None)):
            while len(settled) < number:
                outcome, id = process.stdout.readline().split()
                settled.setdefault(id, []).append(outcome)
            if end is not None:
                end()
                server.start()
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert all(line.startswith("connecting again in ") for line in errors.splitlines()), errors
        # What was on its way when the server was killed came again at its deadline; nothing was completed twice.
        assert all(outcomes.count("done") <= 1 for outcomes in settled.values())
        until(queue, "t", completed=300, active=0, pending=0)
