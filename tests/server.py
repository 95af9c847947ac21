"""A real `ratus` process for tests and benches."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import psutil

from tests.ports import held_port

RATUS = (sys.executable, "-c", "from ratus.cli import main; main()")
SETTINGS = ("PORT", "BIND", "ENGINE", "WORKERS")  # which the environment of the tests is not to choose
START_SECONDS = 30
STOP_SECONDS = 30


class Server:
    """`ratus` with arguments, from the line that says that it serves until it ends; its log goes to a file.

    It can be started again, on the same ports.
    """

    def __init__(
        self,
        log: Path,
        *args: str,
        command: str = "serve",
        env: dict[str, str] | None = None,
        program: tuple[str, ...] = RATUS,
    ) -> None:
        self._log = log
        self._env = {**{k: v for k, v in os.environ.items() if k not in SETTINGS}, **(env or {})}
        self.port, self.grpc_port = held_port(self), held_port(self)
        ports = ["--port", str(self.port)]
        if command == "serve":
            ports += ["--grpc-port", str(self.grpc_port)]
        self._command = [*program, command, *ports, *args]

    @property
    def url(self) -> str:
        return f"{'https' if '--tls-cert' in self._command else 'http'}://127.0.0.1:{self.port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> Self:
        """Start, and wait for the line that says that it serves."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, env=self._env, text=True)
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().rstrip("\n")
        if not re.match(r"ratus \S+ serves ", self.line):
            self.kill()
            ended = f"{self.line!r}, status {self.process.returncode}"
            raise AssertionError(f"the server did not start: {ended}\n{self._log.read_text()}")
        return self

    def processes(self) -> list[psutil.Process]:
        """It and what it has started, such as the writer of a file."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask for the end and wait for it; the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """End it at once, and wait for the writer of a file, which ends when it has written what it was told."""
        writers = self.processes()[1:] if self.process.poll() is None else []
        self.process.kill()
        self.wait()
        psutil.wait_procs(writers, STOP_SECONDS)

    def wait(self) -> int:
        """Wait for the end; the exit status."""
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()


def insist(process: subprocess.Popen[str]) -> None:
    """Tell a process to end until it has, since signals that come close together may be taken for one."""
    for _ in range(STOP_SECONDS):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
            return
    raise AssertionError("the process does not end")


def run(*args: str, timeout: float = 30, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `ratus` to its end."""
    return subprocess.run(
        [*RATUS, *args], capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}
    )
