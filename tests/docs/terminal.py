"""A shell at a terminal, since some commands answer otherwise to a pipe."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

SECONDS: Final = 60  # for a block
_CONTROL: Final = re.compile(r"(\r|\n|\x1b\[[\d;?]*[A-Za-z])")
MARK: Final = "--- the next command ---"


def screen(text: str) -> str:
    """What can be read at a terminal after all this was sent to it: bars have moved, and nothing has a colour."""
    lines, row, column = [""], 0, 0
    for part in _CONTROL.split(text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return "\n".join(lines)


class Terminal:
    """Runs commands one after the other; whatever they have started ends with the block."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        ours, theirs = pty.openpty()
        orders, self._orders = os.pipe()
        self._screen = open(ours, "rb", buffering=0)  # noqa: SIM115 (closed at the end of the block)
        self._shell = subprocess.Popen(
            ["bash", f"/dev/fd/{orders}"],  # so that commands do not read from it
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            pass_fds=[orders],
            cwd=directory,
            env=env,
            start_new_session=True,
        )
        os.close(theirs)
        os.close(orders)
        self._killer = threading.Timer(SECONDS, self._kill)
        self._killer.start()

    def run(self, command: str) -> str:
        """What a command prints. The next one sees its exit status."""
        os.write(self._orders, f"{command}\n{{ s=$?; echo '{MARK}'; (exit $s); }}\n".encode())
        printed = b""
        while not printed.endswith(f"{MARK}\r\n".encode()):
            try:
                data = self._screen.read(65536)
            except OSError:  # the shell has ended
                data = b""
            assert data, f"$ {command}\nhas ended the session or took too long:\n{printed.decode()}"
            printed += data
        return screen(printed.decode()).removesuffix(f"{MARK}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._orders)
        self._killer.cancel()
        self._kill()
        self._shell.wait(SECONDS)
        self._screen.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
