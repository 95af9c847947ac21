"""Commands against a real server on SQLite, which is emptied for each test."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ratus.cli import cli
from tests.server import Server

PROGRAM = (sys.executable, "-c", "from ratus.cli import main; main()")


class Ratus:
    """Runs commands, which find the server by themselves."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RATUS_")},
            "RATUS_TARGET": target,
        }

    def __call__(self, *args: str, input: str | bytes | None = None, code: int = 0) -> Result:
        """Run in this process, as if piped; the exit code must be this one."""
        result = CliRunner().invoke(cli, args, input=input, env={"RATUS_TARGET": self.target})
        assert result.exit_code == code, (result.exit_code, result.output, result.exception)
        return result

    def lines(self, *args: str, **more: Any) -> list[Any]:
        """The values that it prints, one a line."""
        return [json.loads(line) for line in self(*args, **more).stdout.splitlines()]

    def one(self, *args: str, **more: Any) -> Any:
        """The one value that it prints."""
        [value] = self.lines(*args, **more)
        return value

    def start(self, *args: str, **more: Any) -> "subprocess.Popen[str]":
        """Start a process of its own."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        return subprocess.Popen([*PROGRAM, *args], env=self.env, text=True, **pipes)


class Terminal:
    """A process that has a terminal of 120 columns, and what it has shown there so far."""

    def __init__(self, args: Sequence[str], env: dict[str, str]) -> None:
        master, slave = pty.openpty()
        terminal = {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        self.process = subprocess.Popen(
            [*PROGRAM, *args], stdin=slave, stdout=slave, stderr=slave, env=env | terminal, start_new_session=True
        )
        os.close(slave)
        self._master = master
        self.shown = ""

    def until(self, text: str, seconds: float = 30) -> str:
        """Everything shown so far, once the text is in it."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            if not self._read(0.5) and self.process.poll() is not None and text not in self.shown:
                raise AssertionError(self.shown)
        return self.shown

    def answer(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, text.encode() + b"\n")

    def end(self, seconds: float = 30) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + seconds
        while self._read(0.5) or self.process.poll() is None:
            assert time.monotonic() < end, self.shown
        os.close(self._master)
        return self.process.wait()

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            text = os.read(self._master, 65536)
        except OSError:  # nobody has the other end any more
            return False
        self.shown += text.decode(errors="replace")
        return bool(text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    with Server(directory / "server.log", "--sqlite-path", str(directory / "q.db")) as running:
        yield running


@pytest.fixture
def ratus(server: Server) -> Ratus:
    ratus = Ratus(server.target)
    ratus("delete", "--all")
    return ratus


@pytest.fixture
def terminal(ratus: Ratus) -> Iterator[Any]:
    """Starts commands on terminals."""
    started: list[Terminal] = []

    def start(*args: str) -> Terminal:
        started.append(Terminal(args, ratus.env))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A file of 5,000 tasks."""
    path = tmp_path / "numbers.ndjson"
    path.write_text("".join(f'{{"_id":"n{n:06}","topic":"t","payload":{n}}}\n' for n in range(5_000)))
    return path
