"""A real server, watched while it is told nonsense: other clients, memory, the log and what is in the queue."""

import http.client
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil

from tests.server import RATUS, Server

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1500"))  # on each face
LONG = "FUZZ_REQUESTS" in os.environ
SEED = int(os.environ.get("FUZZ_SEED", "0"))
CANARY_SECONDS = 60  # by when another client must have its answer; far beyond the stalls of a busy machine
GROWTH_BYTES = 150 * 1024 * 1024
CANARY = "/v1/topics//tasks/canary"

_BAD_LINES = re.compile(r" (ERROR|CRITICAL) |Traceback")


class Watched:
    """The server and the canary, a client that asks for the same again and again."""

    def __init__(self, server: Server, log: Path, path: str) -> None:
        self.server = server
        self.process = psutil.Process(server.process.pid)
        self.longest = 0.0  # seconds that the canary has waited for an answer
        self.answers = 0
        self.growth = 0
        self._log = log
        self._path = path
        self._before = self.process.memory_info().rss
        self._failure: BaseException | None = None

    def ask(self, path: str) -> tuple[int, bytes]:
        """The answer to a new client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=CANARY_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def sing(self, ended: threading.Event) -> None:
        """Ask until the end for what does not change; what fails is kept."""
        try:
            first = self.ask(self._path)
            assert first[0] == 200
            while True:
                begin = time.monotonic()
                assert self.ask(self._path) == first
                self.longest = max(self.longest, time.monotonic() - begin)
                self.answers += 1
                self.growth = max(self.growth, self.process.memory_info().rss - self._before)
                if ended.wait(0.05):
                    return
        except BaseException as failure:  # noqa: BLE001 (it is raised again where the test sees it)
            self._failure = failure

    def check(self, growth: int) -> None:
        """Nothing has gone wrong."""
        if self._failure is not None:
            raise self._failure
        assert self.server.process.poll() is None
        assert self.answers
        assert self.growth < growth, f"grown by {self.growth} bytes"
        assert bad_lines(self._log) == []


def bad_lines(log: Path) -> list[str]:
    """The lines of a log that no client should be able to cause, the first of them."""
    return [line for line in log.read_text().splitlines() if _BAD_LINES.search(line)][:20]


@contextmanager
def watched(
    directory: Path,
    *options: str,
    path: str = CANARY,
    growth: int = GROWTH_BYTES,
    program: tuple[str, ...] | None = None,
) -> Iterator[Watched]:
    """A server on tasks in memory; at the end, everything is checked and the figures are printed."""
    log = directory / "log"
    with Server(log, "--engine", "memory", *options, program=program or RATUS) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/v1/topics/canary/tasks/canary", b'{"payload": "unchanged", "state": 3}')
        assert connection.getresponse().status == 201
        connection.close()
        with grpc.insecure_channel(server.target) as channel:
            grpc.channel_ready_future(channel).result(30)
        seen = Watched(server, log, path)
        ended = threading.Event()
        canary = threading.Thread(target=seen.sing, args=(ended,))
        canary.start()
        try:
            yield seen
        finally:
            ended.set()
            canary.join()
        seen.check(growth)
        print(f"canary: {seen.answers} answers, the slowest after {seen.longest:.3f} s; {seen.growth >> 20} MiB grown")
