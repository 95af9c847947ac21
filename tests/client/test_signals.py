"""Worker processes that are told to end."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ratus
from tests.client.helpers import ACTIVE, COMPLETED, PENDING
from tests.server import Server, insist

PROGRAM = Path(__file__).with_name("worker_program.py")
SECONDS = 30
KINDS = pytest.mark.parametrize("kind", ["async", "sync"])


@contextlib.contextmanager
def program(server: Server, kind: str, seconds: float, grace: str = "1s") -> Iterator[subprocess.Popen[str]]:
    """A worker that has begun two tasks of five."""
    with ratus.connect_sync(server.target) as queue:
        queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(5)])
    command = [sys.executable, str(PROGRAM), server.target, kind, str(seconds), grace]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert {process.stdout.readline() for _ in range(2)} == {"begin 0\n", "begin 1\n"}
        yield process
    finally:
        process.kill()
        process.communicate()


def reaches(server: Server, *states: int) -> bool:
    """Whether the tasks come to these states; what the server has not sent it gives back by and by."""
    end = time.monotonic() + SECONDS
    with ratus.connect_sync(server.target) as queue:
        while time.monotonic() < end:
            if [queue.get_task(str(n)).state for n in range(len(states))] == list(states):
                return True
    return False


@KINDS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_end_finishes_what_it_has_begun(server: Server, kind: str, number: int) -> None:
    with program(server, kind, 2, "30s") as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out, err) == (0, "end\n", "")
    assert reaches(server, COMPLETED, COMPLETED, PENDING, PENDING, PENDING)


def test_what_takes_too_long_is_given_back(server: Server) -> None:
    with program(server, "async", 600) as process:
        process.terminate()
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out, err) == (0, "end\n", "")
    assert reaches(server, *[PENDING] * 5)


def test_a_second_signal_gives_back_at_once(server: Server) -> None:
    with program(server, "async", 600, "1h") as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (0, "end\n")
    assert reaches(server, *[PENDING] * 5)


def test_a_second_signal_ends_a_program_whose_handlers_do_not_end(server: Server) -> None:
    with program(server, "sync", 600, "1h") as process:
        insist(process)
        assert process.returncode == -signal.SIGTERM
    assert reaches(server, ACTIVE, ACTIVE)


@KINDS
def test_a_worker_that_is_killed_leaves_its_tasks_to_their_deadlines(server: Server, kind: str) -> None:
    with program(server, kind, 600) as process:
        process.kill()
        process.communicate(timeout=SECONDS)
    assert reaches(server, ACTIVE, ACTIVE)
