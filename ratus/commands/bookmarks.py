"""How far an import or an export has come, kept in a file beside the tasks so that it can go on from there."""

import contextlib
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from ratus.commands.failures import Failure

B = TypeVar("B", bound=msgspec.Struct)


class Bookmark:
    """The file; it is always one that was written as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, kind: type[B]) -> B | None:
        """What was saved last; None if there is none, Failure if it cannot be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"cannot read {self.path}: {error.strerror}") from None
        except msgspec.DecodeError:
            raise Failure(f"{self.path} is not what it should be: remove it to start anew") from None

    def save(self, state: msgspec.Struct) -> None:
        """Take the place of what was saved before."""
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.write_bytes(msgspec.json.encode(state))
            os.replace(new, self.path)
        except OSError as error:
            raise Failure(f"cannot write {self.path}: {error.strerror}; say --bookmark for another place") from None

    def remove(self) -> None:
        """There is nothing to go on with any more."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
