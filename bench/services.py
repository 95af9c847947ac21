"""Servers of other queues: each on a free port, in a directory of its own, ended with the stack."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.contenders import Failed, Missing
from bench.load.jobs import REDIS
from bench.setup import Bench
from tests.ports import free_port

START_SECONDS: Final = 30
STOP_SECONDS: Final = 20
PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian puts servers
POSTGRES: Final = Path("/usr/lib/postgresql")
CELERY: Final = "celery -A bench.load.celery_worker worker --concurrency 2 --loglevel ERROR --without-gossip"
RQ: Final = "rq worker --worker-class rq.SimpleWorker --quiet bench --url"


def directory(bench: Bench, stack: ExitStack) -> Path:
    """A new one."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.directory, ignore_cleanup_errors=True)))


def find(program: str, package: str) -> str:
    """The path of a program, or Missing."""
    found = shutil.which(program, path=PATH)
    if found is None:
        raise Missing(f"apt-get install {package}")
    return found


def run(
    stack: ExitStack,
    command: Sequence[object],
    where: Path,
    port: int | None = None,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Start a server, and wait until it accepts connections if it has a port; its output goes to a file."""
    with (where / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=user,
            env={**os.environ, **(env or {})},
        )
    stack.callback(_end, process)
    end = time.monotonic() + START_SECONDS
    while port is not None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise Failed(f"{command[0]} did not start: {(where / 'log').read_text()[-300:]!r}") from None
            time.sleep(0.02)  # a port tells nobody that it is listened on
        else:
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def beanstalkd(bench: Bench, stack: ExitStack) -> str:
    """beanstalkd with a binlog that is synced at every write; its address."""
    program, where, port = find("beanstalkd", "beanstalkd"), directory(bench, stack), free_port()
    run(stack, [program, "-l", "127.0.0.1", "-p", port, "-b", where, "-f0"], where, port)
    return f"127.0.0.1:{port}"


def nats(bench: Bench, stack: ExitStack) -> str:
    """NATS with JetStream on disk; its address."""
    program, where, port = find("nats-server", "nats-server"), directory(bench, stack), free_port()
    run(stack, [program, "-a", "127.0.0.1", "-p", port, "-js", "-sd", where], where, port)
    return f"127.0.0.1:{port}"


def redis(bench: Bench, stack: ExitStack) -> str:
    """Redis with an append-only file that is synced at every write; its URL."""
    program, where, port = find("redis-server", "redis-server"), directory(bench, stack), free_port()
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "dir": where,
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
    }
    run(stack, [program, *(word for name, value in options.items() for word in (f"--{name}", value))], where, port)
    return f"redis://127.0.0.1:{port}/0"


def celery(bench: Bench, stack: ExitStack) -> str:
    """Redis and a Celery worker with two processes; the URL of Redis."""
    url = redis(bench, stack)
    run(stack, _python(CELERY), directory(bench, stack), env={REDIS: url})
    return url


def rq(bench: Bench, stack: ExitStack) -> str:
    """Redis and two RQ workers that do not fork for a job; the URL of Redis."""
    url = redis(bench, stack)
    for _ in range(2):
        run(stack, [*_python(RQ), url], directory(bench, stack))
    return url


def _python(command: str) -> list[str]:
    """A command that is a script beside our interpreter."""
    script, *words = command.split()
    return [sys.executable, str(Path(sys.executable).with_name(script)), *words]


def postgresql_program(name: str) -> Path:
    """The path of a program of the newest PostgreSQL, or Missing."""
    programs = sorted(POSTGRES.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not programs:
        raise Missing("apt-get install postgresql")
    return programs[-1]


def postgresql(bench: Bench, stack: ExitStack) -> str:
    """PostgreSQL with its defaults, which sync at every commit; its URL. As root it runs as the user postgres."""
    initialize, program = postgresql_program("initdb"), postgresql_program("postgres")
    user = "postgres" if os.geteuid() == 0 else None
    # The directories of the bench are our own, and this server is of another user.
    where, port = directory(bench, stack), free_port()
    if user:
        bench.directory.chmod(0o711)
        os.chown(where, pwd.getpwnam(user).pw_uid, -1)
    data = where / "data"
    initdb = [initialize, "-D", data, "-U", "bench", "--auth", "trust", "--no-sync"]
    done = subprocess.run(initdb, user=user, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"initdb: {done.stderr.strip()[-300:]!r}")
    server = [program, "-D", data, "-p", port, "-h", "127.0.0.1", "-k", where]
    run(stack, server, where, port, user)
    return f"postgresql://bench@127.0.0.1:{port}/postgres"
