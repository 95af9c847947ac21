"""Files that are either complete or not there, whenever the process or the machine stops."""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from ratus.commands.failures import Failure


def sync(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Bring the name of a file to the disk."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class NewFile:
    """A file that gets its name once it is complete; of one that is not, nothing is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        except OSError as error:
            raise Failure(f"cannot write {path}: {error.strerror}") from None
        self._unfinished = Path(name)
        self.file = os.fdopen(descriptor, "wb")

    def finish(self) -> None:
        """Give it its name, for good."""
        sync(self.file)
        self.file.close()
        self._unfinished.replace(self._path)
        sync_directory(self._path.absolute())

    def __enter__(self) -> "NewFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._unfinished.unlink(missing_ok=True)
