"""A place where the blocks of a page run: a directory that looks like a clone, and a server."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.docs.blocks import ROOT, Block
from tests.docs.sessions import matches, nonces, steps
from tests.docs.terminal import SECONDS, Terminal
from tests.ports import free_port
from tests.server import Server

MONGOD_PORT = 27017
CRAWLED = 8201  # the site of crawl.py, which takes the next port too
PORTS = re.compile(r"(?<=[:= A])(8000|8001|8002|8201|8202|50051|50052|50053|27017)\b")  # A as in %3A
PYTHON = Path(sys.executable).parent


class Place:
    """Runs blocks one after the other; what keeps running ends with the place."""

    def __init__(self, directory: Path, server: Server, mongod_port: Callable[[], int]) -> None:
        self.directory = directory
        self._mongod_port = mongod_port
        self._ports: dict[int, int] = {8000: server.port, 50051: server.grpc_port}
        self._nonces: dict[str, str] = {}  # those that stand in the page, and ours
        self._stack = ExitStack()
        (directory / ".venv").symlink_to(sys.prefix)
        for example in (ROOT / "examples").iterdir():
            (directory / "examples" / example.name).mkdir(parents=True)
            for file in example.iterdir():
                if file.name not in ("build", "node_modules"):
                    (directory / "examples" / example.name / file.name).symlink_to(file)
        inherited = {name: value for name, value in os.environ.items() if name not in ("PORT", "BIND", "ENGINE")}
        self._env = {
            **inherited,
            "PATH": f"{directory / 'bin'}:{PYTHON}:{os.environ['PATH']}",
            "RATUS_TARGET": server.target,
            "HOME": str(directory),
            "COLUMNS": "150",
            "TERM": "xterm",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, block: Block, output: Block | None = None) -> None:
        """Run a block, and compare what it prints with what stands in it or in the block after it."""
        text = self._here(block.text)
        if block.language == "console":
            (self._keep_running if block.note == "keeps running" else self._session)(block, steps(text))
            return
        command = [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euc", text]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self._env,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{block.place} has failed:\n{done.stdout}"
        if output is not None:
            expected = self._here(output.text)
            assert matches(done.stdout, expected), f"{output.place}:\n{expected}\nbut it printed\n{done.stdout}"

    def _session(self, block: Block, commands: list[tuple[str, str]]) -> None:
        with Terminal(self.directory, self._env) as terminal:
            for command, expected in commands:
                for there, here in self._nonces.items():
                    command = command.replace(there, here)
                printed = terminal.run(command)
                said = f"{block.place}:\n$ {command}\n{expected}\nbut it printed\n{printed}"
                assert matches(printed, expected), said
                self._nonces |= nonces(printed, expected)

    def _keep_running(self, block: Block, commands: list[tuple[str, str]]) -> None:
        """Start a command, and wait for the first line that it prints; the rest is compared in the end."""
        [(command, expected)] = commands
        path = self.directory / f"{block.page.stem}-{block.line}.output"
        with path.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], stdout=file, stderr=file, cwd=self.directory, env=self._env
            )
        self._stack.callback(self._end, block, process, path, expected)
        first = expected.splitlines(keepends=True)[0]
        self._until(lambda: path.read_text().count("\n") > 0 or process.poll() is not None)
        printed = path.read_text().splitlines(keepends=True)[:1]
        assert matches("".join(printed), first), f"{block.place}:\n{first}\nbut it printed\n{path.read_text()}"

    def _end(self, block: Block, process: subprocess.Popen[bytes], path: Path, expected: str) -> None:
        self._until(lambda: matches(path.read_text(), expected))
        printed = path.read_text()
        process.terminate()
        process.wait(SECONDS)
        assert matches(printed, expected), f"{block.place}:\n{expected}\nbut it printed\n{printed}"

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)  # a file tells nobody when it grows

    def _here(self, text: str) -> str:
        """The text with the ports of this place."""
        return PORTS.sub(lambda found: str(self._port(int(found[0]))), text)

    def _port(self, named: int) -> int:
        if named == MONGOD_PORT:
            return self._mongod_port()
        if named == CRAWLED + 1:
            return self._port(CRAWLED) + 1
        return self._ports.setdefault(named, _free_pair())

    def bring_cpp(self, program: Path) -> None:
        """Have examples/cpp built."""
        build = self.directory / "examples" / "cpp" / "build"
        if not build.exists():
            build.symlink_to(program.parent)

    def bring_node(self, example: Path) -> None:
        """Have examples/node installed; `npm ci`, which has done it, does nothing more."""
        folder = self.directory / "examples" / "node"
        if not folder.is_symlink():
            shutil.rmtree(folder)
            folder.symlink_to(example)
            npm = self.directory / "bin" / "npm"
            npm.parent.mkdir(exist_ok=True)
            npm.write_text('#!/bin/sh\n[ "$*" = ci ]\n')
            npm.chmod(0o755)


def _free_pair() -> int:
    """A port that nobody listens on, nor on the next one."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + 1)):
                return port
