"""The writer as a program of its own: `python -m ratus.engines.sqlite.writer DESCRIPTOR PATH`.

It speaks the `protocol` over the socket of this file descriptor, and ends when the server has closed it, however the
server ends; what has arrived is written before. Signals are for the server to act upon.
"""

import contextlib
import gc
import logging
import select
import signal
import socket
import sys
import threading
from typing import Final

from ratus.engines.sqlite import groups, protocol, schema
from ratus.engines.sqlite.checkpoints import Checkpoints
from ratus.engines.sqlite.groups import Call
from ratus.engines.sqlite.protocol import Frames, Kind, Log
from ratus.errors import RatusError, StartError
from ratus.memory import LARGE, give_back, keep_large_blocks_apart

_log: Final = logging.getLogger(__name__)

_PAUSE: Final = 1.0  # seconds without calls, after which memory that large ones took is given back


class Server:
    """The server at the other end of a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = Frames()
        self._sending = threading.Lock()
        self._grown = False  # something large has come since memory was given back

    def send(self, kind: Kind, content: bytes) -> None:
        """Send a frame; nothing happens if there is no server any more."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(protocol.frame(kind, content))

    def calls(self) -> list[Call]:
        """All calls that have arrived, at least one; none when the server has closed the socket, or died."""
        if self._grown and not select.select([self._connection], [], [], _PAUSE)[0]:
            self._grown = False
            give_back()
        calls: list[Call] = []
        while not calls:
            try:
                data = self._connection.recv(LARGE)
            except ConnectionError:
                data = b""
            if not data:
                break
            for _, content in self._frames.take(data):
                self._grown |= len(content) >= LARGE
                calls += protocol.decode_calls(content)
        return calls


class _ToServer(logging.Handler):
    """Leaves the log to the server."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.setFormatter(logging.Formatter("%(message)s"))  # the rest is added by the server

    def emit(self, record: logging.LogRecord) -> None:
        self._server.send(Kind.LOG, protocol.encode_log(Log(record.name, record.levelno, self.format(record))))


def main(descriptor: int, path: str) -> None:
    """Write until the server ends."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    server = Server(socket.socket(fileno=descriptor))
    logging.basicConfig(level=logging.WARNING, handlers=[_ToServer(server)])
    try:
        db = schema.connect(path)
    except StartError as error:
        server.send(Kind.READY, str(error).encode())
        return
    checkpoints = Checkpoints(path, db)
    keep_large_blocks_apart()
    gc.collect()
    gc.freeze()
    server.send(Kind.READY, b"")
    while calls := server.calls():
        answers = groups.run(db, calls, writes=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, RatusError):
                _log.error("a call has failed", exc_info=answer)
        server.send(Kind.ANSWERS, protocol.encode_answers(answers))
        checkpoints.after_group()
    checkpoints.stop()
    db.close()
    checkpoints.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
