"""`ratus export`."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click
import msgspec

from ratus.commands.bookmarks import Bookmark
from ratus.commands.failures import Exit, Failure
from ratus.commands.files import sync, sync_directory
from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.paging import items, pages
from ratus.commands.parameters import STATE, state_number
from ratus.commands.progress import Bar, Rate, bar
from ratus.errors import NotFound

if TYPE_CHECKING:
    from ratus.commands.connection import Client

_INTERVAL: Final = 0.2  # seconds between bookmarks


class Progress(msgspec.Struct):
    """How far an export from a server has come."""

    target: str
    topic: str
    state: int | None
    token: str = ""
    offset: int = 0
    read: int = 0
    written: int = 0


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), default="-")
@click.option("--topic", default="", help="Only the tasks of this topic.")
@click.option("--state", type=STATE, help="Only the tasks in this state.")
@click.option("--resume", is_flag=True, help="Go on where an export to FILE was interrupted, if one was.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@remote
@printed
def command(server: Server, out: Output, file: Path, topic: str, state: str | None, resume: bool, force: bool) -> None:
    """Write tasks to a file.

    FILE gets one JSON object a line, in the form of the REST API, by their IDs; - is stdout.

    Every task that is there from the begin to the end is in it once. FILE gets its name when it is complete; until
    then it is FILE.part, and FILE.export tells how far it has come.

    \b
    Examples:
      ratus export tasks.ndjson
      ratus export tasks.ndjson --resume
      ratus export --topic mail --state archived | gzip > mail.ndjson.gz
    """
    begin = Progress(server.target, topic, state_number(state))
    if str(file) == "-":
        if resume:
            raise click.UsageError("--resume goes on with a file")
        stdout = sys.stdout.buffer
        if not server.run(lambda client: Export(client, stdout, begin, None).run()):
            raise Failure(f"interrupted after {begin.written:,} tasks", Exit.INTERRUPTED)
        return
    if file.exists() and not force:
        raise Failure(f"{file} is there already: choose another name, or say --force")
    part, mark = file.with_name(file.name + ".part"), Bookmark(file.with_name(file.name + ".export"))
    progress = _resumed(mark, begin) if resume else begin
    with _opened(part, progress) as target:
        if not server.run(lambda client: Export(client, target, progress, mark).run()):
            raise Failure(f"interrupted after {progress.written:,} tasks. Go on with --resume", Exit.INTERRUPTED)
    part.replace(file)
    sync_directory(file.absolute())
    mark.remove()
    if out.human:
        out.say(f"wrote {progress.written:,} tasks to {file}")
    else:
        out.json({"file": str(file.absolute()), "tasks": progress.written})


def _resumed(mark: Bookmark, begin: Progress) -> Progress:
    saved = mark.read(Progress)
    if saved is None:
        return begin
    if (saved.target, saved.topic, saved.state) != (begin.target, begin.topic, begin.state):
        raise Failure("the export that was interrupted had another --target, --topic or --state", Exit.USAGE)
    return saved


@contextlib.contextmanager
def _opened(part: Path, progress: Progress) -> Iterator[BinaryIO]:
    """The file to go on with, without what was written behind the bookmark."""
    try:
        file = part.open("r+b" if progress.offset else "wb")
    except OSError as error:
        raise Failure(f"cannot write {part}: {error.strerror}") from None
    with file:
        if os.fstat(file.fileno()).st_size < progress.offset:
            raise Failure(f"{part} is shorter than it was: export anew, without --resume")
        file.truncate(progress.offset)
        file.seek(progress.offset)
        yield file


class Export:
    """Reads page after page, and notes from time to time what is on disk."""

    def __init__(self, client: "Client", file: BinaryIO, progress: Progress, mark: Bookmark | None) -> None:
        self._client = client
        self._file = file
        self._progress = progress
        self._mark = mark
        self._stop = asyncio.Event()

    async def run(self) -> bool:
        """Export to the end; False if it was interrupted before. RatusError, after which it can go on too."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            with bar("export", await self._total(), begin=self._progress.read) as shown:
                return await self._copy(shown)
        finally:
            self._note()

    async def _copy(self, shown: Bar) -> bool:
        progress, encode = self._progress, msgspec.json.encode
        rate, begin, noted = Rate(), progress.read, time.monotonic()
        calls = self._client.calls
        async for page in pages(lambda page: calls.list_tasks(progress.topic, page), token=progress.token):
            tasks = [task for task in page.items if progress.state in (None, task.state)]
            text = b"".join(encode(task) + b"\n" for task in tasks)
            self._file.write(text)
            progress.offset += len(text)
            progress.written += len(tasks)
            progress.read += len(page.items)
            progress.token = page.next_token
            shown.show(progress.read, f"{progress.written:,} tasks, {rate.of(progress.read - begin)}")
            if self._stop.is_set():
                return not page.next_token
            if time.monotonic() - noted > _INTERVAL:
                self._note()
                noted = time.monotonic()
        return True

    def _note(self) -> None:
        """Bring what was written to the disk, and then that it is there."""
        if self._mark is None:
            self._file.flush()
        elif self._progress.token:
            sync(self._file)
            self._mark.save(self._progress)
        else:
            sync(self._file)

    async def _total(self) -> int:
        """How many tasks there are to read."""
        if not self._progress.topic:
            return sum(topic.count for topic in await items(self._client.calls.list_topics))
        try:
            return (await self._client.calls.get_topic(self._progress.topic)).count
        except NotFound:
            return 0
