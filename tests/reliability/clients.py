"""Processes of clients, which crash, stand still and end in order, and the journals that they leave."""

import asyncio
import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.reliability.history import History, clock
from tests.reliability.journal import read_journal
from tests.reliability.load import until

WORKING_SECONDS: Final = 60
END_SECONDS: Final = 60
_numbers: Final = itertools.count()


class ClientProcess:
    """One process of `tests.reliability.client`."""

    def __init__(self, directory: Path, kind: str, url: str, targets: str, seed: int) -> None:
        self.kind = kind
        self.name = f"{kind}{next(_numbers)}"
        self._journal = directory / f"{self.name}.journal"
        self._died: float | None = None
        self._read = self._handed = 0  # bytes of the journal, and tasks handed out in them
        command = (sys.executable, "-m", "tests.reliability.client")
        with (directory / "clients.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, kind, self.name, url, targets, str(self._journal), str(seed)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End it as a crash does."""
        self._died = clock()
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, as if no time had passed."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> int:
        """Have it end in order; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def close(self) -> None:
        """Be sure that it is gone."""
        if self._process.poll() is None:
            self.kill()

    async def working(self) -> float:
        """Return once it was handed something that it has noted from now on; how many ms that took."""
        began, seen = time.monotonic(), self._noted()
        await until(lambda: self._noted() > seen, WORKING_SECONDS, f"{self.name} does not work")
        return (time.monotonic() - began) * 1000

    def _noted(self) -> int:
        assert self._process.poll() is None, f"{self.name} has ended by itself"
        if self._journal.exists():
            with self._journal.open("rb") as file:
                file.seek(self._read)
                lines = file.read().rpartition(b"\n")[0]
            self._read += len(lines)
            self._handed += lines.count(b'"kind": "deliveries"')
        return self._handed

    def history(self) -> History:
        """What it has written."""
        return read_journal(self._journal, self._died)


async def end_all(clients: list[ClientProcess]) -> list[int]:
    """End them in order, all at once; their exit statuses."""
    return await asyncio.gather(*(asyncio.to_thread(client.end) for client in clients))
