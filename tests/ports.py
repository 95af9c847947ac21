"""Ports for the servers that tests start."""

import errno
import random
import socket
from typing import Final

# Below those that systems give to connections and to servers that do not choose, so that none of them takes a port
# between our choice and the start of its server.
_FIRST: Final = 15_000
_LAST: Final = 32_000


def free_port() -> int:
    """A TCP port that nobody listens on."""
    while True:
        port = random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
