"""A number that a test sets and a process under test looks at."""

import mmap
import struct
from pathlib import Path

_FORMAT = "q"


class Dial:
    """A number in a file, which both processes have in memory; 0 at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("a+b") as file:
            if not file.tell():
                file.write(bytes(struct.calcsize(_FORMAT)))
                file.flush()
            self._memory = mmap.mmap(file.fileno(), struct.calcsize(_FORMAT))

    def get(self) -> int:
        [number] = struct.unpack_from(_FORMAT, self._memory)
        return int(number)

    def set(self, number: int) -> None:
        struct.pack_into(_FORMAT, self._memory, 0, number)
