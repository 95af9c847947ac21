"""What contenders run on: our servers on every engine, MongoDB servers, and bare servers that are the floors."""

import secrets
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from bench.contenders import Missing
from tests.mongod import MissingMongod, Mongod, replica_set, standalone
from tests.ports import free_port
from tests.server import Server

SQLITE: Final = "SQLite"
MEMORY: Final = "memory"
STANDALONE: Final = "MongoDB, standalone"
REPLICA_SET: Final = "MongoDB, replica set of one"
DURABLE: Final = {
    SQLITE: "on disk, fsync before the answer",
    MEMORY: "not durable",
    STANDALONE: "on disk, journal synced before the answer",
    REPLICA_SET: "on disk, majority, journal synced before the answer",
}
_CACHE_MIB: Final = max(256, (psutil.virtual_memory().total // 2**20 - 1024) // 2)  # as MongoDB takes by itself
MONGOD: Final = {"wiredTigerEngineRuntimeConfig": f"cache_size={_CACHE_MIB}MB", "ttlMonitorSleepSecs": 60}
START_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class Bench:
    """How to measure, where files go, and the MongoDB servers, which all contenders share."""

    directory: Path
    stack: ExitStack
    runs: int = 3
    seconds: float = 2
    stored: int = 200_000  # tasks in a store that is large
    few: int = 10_000  # and in one that is small
    _mongods: dict[str, Mongod] = field(default_factory=dict)

    def mongod(self, kind: str) -> Mongod:
        """The standalone server or the primary, its data on the same disk as everything else."""
        if kind not in self._mongods:
            try:
                if kind == STANDALONE:
                    server = self.stack.enter_context(standalone(within=self.directory))
                else:
                    [server] = self.stack.enter_context(replica_set(within=self.directory))
            except MissingMongod as missing:
                raise Missing(str(missing)) from None
            for name, value in MONGOD.items():
                server.client.admin.command({"setParameter": 1, name: value})
            self._mongods[kind] = server
        return self._mongods[kind]

    def queue(self, engine: str) -> "Queue":
        """A new queue on an engine, for as long as the bench lives."""
        name = f"bench_{secrets.token_hex(4)}"
        if engine == MEMORY:
            return Queue(self, name, ("--engine", "memory"))
        if engine == SQLITE:
            return Queue(self, name, ("--sqlite-path", str(self.directory / f"{name}.db")))
        mongod = self.mongod(engine)
        return Queue(
            self, name, ("--engine", "mongodb", "--mongodb-uri", mongod.uri, "--mongodb-database", name), mongod
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """Where a server of ours finds its tasks."""

    bench: Bench
    name: str
    arguments: tuple[str, ...]
    mongod: Mongod | None = None

    @property
    def path(self) -> Path:
        """The file of a queue on SQLite."""
        return self.bench.directory / f"{self.name}.db"

    def serve(self, stack: ExitStack, *arguments: str) -> Server:
        """Start a server on it, which ends with the stack; so does the queue."""
        stack.callback(self._remove)
        log = self.bench.directory / "ratus.log"
        return stack.enter_context(Server(log, *self.arguments, "--log-level", "warning", *arguments))

    def _remove(self) -> None:
        if self.mongod is not None:
            self.mongod.client.drop_database(self.name)
        for file in self.bench.directory.glob(f"{self.name}.db*"):
            file.unlink()


def bare(stack: ExitStack, kind: str) -> int:
    """Start a server that does nothing but answer, `uvicorn` or `grpc`; its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.load.bare_{kind}", str(port)], stdout=subprocess.PIPE, text=True
    )
    stack.callback(_end, process)
    assert process.stdout is not None
    assert process.stdout.readline(), f"the bare {kind} server did not start"
    return port


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.wait(START_SECONDS)
    assert process.stdout is not None
    process.stdout.close()
