"""Batches of tasks out of a file with one task in JSON a line."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

from ratus.commands.failures import Exit, Failure
from ratus.config import MAX_REQUEST_BYTES, MIB
from ratus.errors import BadRequest
from ratus.forms import TaskBody, task_input
from ratus.model import TaskInput

BATCH: Final = 1000  # tasks
_BATCH_BYTES: Final = 4 * MIB
_ID_BYTES: Final = 16
MEND: Final = ". Mend it, and go on with --resume"

_decode: Final = msgspec.json.Decoder(TaskBody).decode


class Batch:
    """Tasks of consecutive lines, and where the lines end."""

    def __init__(self) -> None:
        self.tasks: list[TaskInput] = []
        self.numbers: list[int] = []  # of their lines, from 1 on
        self.named = 0  # tasks that had no ID and were given one
        self.line = 0  # number of the last line
        self.end = 0  # offset behind it
        self.last = b""


class Lines:
    """Reads a file from an offset on, of which `line` lines lie before it.

    A task without an ID gets one made of `name`, the number of the line and its text: the same whenever it is read.
    """

    def __init__(self, file: BinaryIO, *, topic: str, name: str, line: int = 0, offset: int = 0) -> None:
        self._file = file
        self._topic = topic
        self._name = name.encode()
        self._line = line
        self._offset = offset

    def skip(self, count: int) -> None:
        """Leave out lines."""
        for _ in range(count):
            if not self._read():
                return

    def batches(self) -> Iterator[Batch]:
        """The batches, of up to 1,000 tasks and some MiB each; Failure for a line that is no task."""
        batch, size = Batch(), 0
        while text := self._read():
            if text.strip():
                batch.tasks.append(self._task(text, batch))
                batch.numbers.append(self._line)
            batch.line, batch.end, batch.last = self._line, self._offset, text
            size += len(text)
            if len(batch.tasks) == BATCH or size >= _BATCH_BYTES:
                yield batch
                batch, size = Batch(), 0
        if batch.line:
            yield batch

    def _read(self) -> bytes:
        text = self._file.readline(MAX_REQUEST_BYTES + 1)
        if len(text) > MAX_REQUEST_BYTES:
            raise Failure(f"line {self._line + 1}: longer than {MAX_REQUEST_BYTES} bytes", Exit.USAGE)
        if text:
            self._line += 1
            self._offset += len(text)
        return text

    def _task(self, text: bytes, batch: Batch) -> TaskInput:
        try:
            form = _decode(text)
            id = form.id or ""
            if not id:
                batch.named += 1
                id = self._id(text)
            return task_input(form, self._topic, id)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Failure(f"line {self._line}: no task in JSON: {error}{MEND}", Exit.USAGE) from None
        except BadRequest as error:
            raise Failure(f"line {self._line}: {error}{MEND}", Exit.USAGE) from None

    def _id(self, text: bytes) -> str:
        digest = hashlib.blake2b(digest_size=_ID_BYTES)
        for part in (self._name, str(self._line).encode(), text.strip()):
            digest.update(len(part).to_bytes(8) + part)
        return digest.hexdigest()


def fingerprint(text: bytes) -> str:
    """By which a line is known again."""
    return hashlib.blake2b(text, digest_size=_ID_BYTES).hexdigest()
