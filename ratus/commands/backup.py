"""`ratus backup`."""

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from ratus.commands.failures import Failure
from ratus.commands.files import NewFile
from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.progress import bar
from ratus.sizes import size_text

if TYPE_CHECKING:
    from ratus.commands.connection import Client

_HEADER: Final = b"SQLite format 3\0"


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@remote
@printed
def command(server: Server, out: Output, file: Path, force: bool) -> None:
    """Copy the SQLite file, while it serves.

    The file of the server is copied to FILE here.

    The copy is what the server had at one moment. FILE gets its name once it is complete and on disk; - is stdout.
    To restore it, stop the server, remove what is left of the old database (with its -wal and -shm files), and put FILE
    in its place. MongoDB has tools of its own, such as mongodump.

    \b
    Examples:
      ratus backup ratus-2030-01-31.db
      ratus backup --target queue.internal:50051 - | gzip > ratus.db.gz
    """
    begin = time.monotonic()
    if str(file) == "-":
        stdout = sys.stdout.buffer
        if stdout.isatty():
            raise click.UsageError("a database is not for a terminal: say a FILE, or pipe it on")
        server.run(lambda client: _fetch(client, stdout))
        stdout.flush()
        return
    if file.exists() and not force:
        raise Failure(f"{file} is there already: choose another name, or say --force")
    with NewFile(file) as new:
        size = server.run(lambda client: _fetch(client, new.file))
        new.finish()
    seconds = time.monotonic() - begin
    if out.human:
        out.say(f"copied {size_text(size)} to {file} in {seconds:.1f} s")
    else:
        out.json({"file": str(file.absolute()), "bytes": size, "seconds": round(seconds, 3)})


async def _fetch(client: "Client", file: BinaryIO) -> int:
    """Write the copy to a file; its size."""
    done, total = 0, 0
    first = b""
    with bar("backup", None) as shown:
        async for data, total in _parts(client):
            file.write(data)
            first = first or data[: len(_HEADER)]
            done += len(data)
            shown.show(done, f"{size_text(done)} of {size_text(total)}", total)
    if done != total or first != _HEADER:
        raise Failure(f"the copy is not complete: {done} of {total} bytes; try again")
    return done


async def _parts(client: "Client") -> AsyncIterator[tuple[bytes, int]]:
    from ratus.v1.server_service_pb2 import BackupRequest

    async for part in client.stream(lambda link: link.server.Backup, BackupRequest()):
        yield part.data, part.total_bytes
