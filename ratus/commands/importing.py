"""`ratus import`."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click
import msgspec

from ratus.commands.bookmarks import Bookmark
from ratus.commands.failures import Exit, Failure, failure
from ratus.commands.lines import MEND, Batch, Lines, fingerprint
from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.progress import Rate, bar
from ratus.errors import BadRequest, TooLarge, TooMany, Unavailable

if TYPE_CHECKING:
    from ratus.commands.connection import Client

_IN_FLIGHT: Final = 3  # batches
_PATIENCE: Final = 60.0  # seconds that the server may be away
_LONGEST_PAUSE: Final = 2.0  # seconds between attempts
_ENTRY: Final = re.compile(r"tasks\[(\d+)\]\.?")


class Progress(msgspec.Struct):
    """How far an import of a file into a server has come."""

    target: str
    topic: str
    name: str
    line: int = 0
    offset: int = 0
    last_bytes: int = 0  # length and fingerprint of the line before the offset
    last: str = ""
    created: int = 0
    existing: int = 0
    named: int = 0


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--topic", default="", help="Topic of the tasks that name none.")
@click.option("--resume", is_flag=True, help="Go on where an import of FILE was interrupted, if one was.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out so many lines at the begin.")
@click.option("--name", help="What the IDs of tasks without one are made of. Default: the name of FILE.")
@click.option("--bookmark", type=click.Path(dir_okay=False, path_type=Path), help="Default: FILE.import.")
@remote
@printed
def command(
    server: Server,
    out: Output,
    file: Path,
    topic: str,
    resume: bool,
    skip: int,
    name: str | None,
    bookmark: Path | None,
) -> None:
    """Insert tasks from a file.

    FILE has one JSON object a line, in the form of the REST API; - is stdin.

    Tasks that exist already are left as they are, so that nothing is imported twice. A task without an _id gets one
    made of the name of the file, the number of the line and its text. How far it has come is kept in FILE.import; of
    stdin it is told at the end, for --skip.

    \b
    Examples:
      ratus import tasks.ndjson --topic mail
      ratus import tasks.ndjson --topic mail --resume
      zcat tasks.ndjson.gz | ratus import - --skip 250000
    """
    is_stdin = str(file) == "-"
    if resume and (is_stdin or skip):
        raise click.UsageError("--resume goes on with a file; for stdin say --skip")
    state = Progress(server.target, topic, name if name is not None else file.name)
    mark = None if is_stdin else Bookmark(bookmark or file.with_name(file.name + ".import"))
    if resume and mark is not None:
        state = _resumed(mark, state)
    with _opened(file, state) as source:
        lines = Lines(source, topic=topic, name=state.name, line=state.line, offset=state.offset)
        lines.skip(skip)
        size = None if is_stdin else os.fstat(source.fileno()).st_size
        finished = server.run(lambda client: Import(client, lines, state, mark).run(size))
    text = f"{state.line:,} lines: {state.created:,} tasks created, {state.existing:,} were there already"
    if state.named:
        text += f"; {state.named:,} without an ID got one"
    if not finished:
        how = f"--skip {state.line}" if is_stdin else "--resume"
        raise Failure(f"interrupted after {text}. Go on with {how}", Exit.INTERRUPTED)
    if mark is not None:
        mark.remove()
    if out.human:
        out.say(text)
    else:
        counts = {"created": state.created, "existing": state.existing, "named": state.named}
        out.json({"lines": state.line, **counts})


def _resumed(mark: Bookmark, begin: Progress) -> Progress:
    """Where the last import of the file was; the begin if there was none."""
    saved = mark.read(Progress)
    if saved is None:
        return begin
    for what in ("target", "topic", "name"):
        if getattr(saved, what) != getattr(begin, what):
            before, now = getattr(saved, what), getattr(begin, what)
            raise Failure(f"the import that was interrupted had the {what} {before!r}, not {now!r}", Exit.USAGE)
    return saved


@contextlib.contextmanager
def _opened(file: Path, state: Progress) -> Iterator[BinaryIO]:
    """The file from where the import goes on; Failure if it is not the same file any more."""
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        source = file.open("rb")
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}", Exit.USAGE) from None
    with source:
        source.seek(state.offset - state.last_bytes)
        if state.last and fingerprint(source.read(state.last_bytes)) != state.last:
            raise Failure(f"{file} is not as it was when it was interrupted: import it anew, without --resume")
        yield source


class Import:
    """Sends batches, a few at a time, and notes those that are stored in their order."""

    def __init__(self, client: "Client", lines: Lines, state: Progress, mark: Bookmark | None) -> None:
        self._client = client
        self._lines = lines
        self._state = state
        self._mark = mark
        self._stop = asyncio.Event()

    async def run(self, size: int | None) -> bool:
        """Import to the end; False if it was interrupted before. Failure."""
        await self._client.calls.get_server_info()  # at first the server must be there, later it may come and go
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, number)
        rate, begin = Rate(), self._state.line
        under_way: deque[tuple[Batch, asyncio.Task[int]]] = deque()
        with bar("import", size, begin=self._state.offset) as shown:
            try:
                for batch in self._lines.batches():
                    under_way.append((batch, asyncio.create_task(self._insert(batch))))
                    await asyncio.sleep(0)  # so that it is on its way while the next one is read
                    if len(under_way) == _IN_FLIGHT:
                        await self._settle(under_way)
                    lines = self._state.line
                    shown.show(self._state.offset, f"{lines:,} lines, {rate.of(lines - begin)}")
                    if self._stop.is_set():
                        break
            finally:  # also when a line is wrong: what comes before it counts
                while under_way:
                    await self._settle(under_way)
            shown.show(self._state.offset, f"{self._state.line:,} lines")
        return not self._stop.is_set()

    def _interrupt(self, number: int) -> None:
        if self._stop.is_set():  # what is under way takes too long for somebody
            os._exit(128 + number)
        self._stop.set()

    async def _settle(self, under_way: deque[tuple[Batch, asyncio.Task[int]]]) -> None:
        """Wait for the oldest batch, and note it."""
        batch, sending = under_way.popleft()
        try:
            created = await sending
        except BaseException:
            for _, other in under_way:
                other.cancel()
            under_way.clear()  # they come after it, so that they are sent again
            raise
        state = self._state
        state.line, state.offset = batch.line, batch.end
        state.last_bytes, state.last = len(batch.last), fingerprint(batch.last)
        state.created += created
        state.existing += len(batch.tasks) - created
        state.named += batch.named
        if self._mark is not None:
            self._mark.save(state)

    async def _insert(self, batch: Batch) -> int:
        """Insert a batch, however often it takes; the number of tasks created."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + _PATIENCE, 0.1
        while True:
            try:
                return (await self._client.calls.insert_tasks(batch.tasks)).created if batch.tasks else 0
            except (BadRequest, TooLarge) as error:
                raise _of_line(error, batch) from None
            except (Unavailable, TooMany) as error:
                if loop.time() + pause > end or self._stop.is_set():
                    shown = failure(error, self._client.target)
                    raise Failure(f"{shown.message}. Go on with {self._how()}", Exit.UNAVAILABLE) from None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _how(self) -> str:
        return "--resume" if self._mark is not None else f"--skip {self._state.line}"


def _of_line(error: BadRequest | TooLarge, batch: Batch) -> Failure:
    """The error as one of the line that it is about."""
    found = _ENTRY.search(error.field if isinstance(error, BadRequest) else error.detail)
    line = batch.numbers[int(found.group(1)) if found else 0]
    return Failure(f"line {line}: {_ENTRY.sub('', str(error), count=1)}{MEND}", Exit.USAGE)
