"""Ports for the servers that tests start."""

import contextlib
import errno
import random
import socket
import weakref
from typing import Final

# Below those that systems give to connections and to servers that do not choose, so that none of them takes a port
# between our choice and the start of its server.
_FIRST: Final = 15_000
_LAST: Final = 32_000


def free_port() -> int:
    """A TCP port that nobody listens on, nor holds."""
    with _bound() as probe:
        return int(probe.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """Different ones."""
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(_bound()).getsockname()[1] for _ in range(count)]


def port_args(**taken: int) -> list[str]:
    """Arguments for the two ports of a server: `port` and `grpc_port`, free where they are not given."""
    port, grpc_port = free_ports(2)
    numbers = {"port": port, "grpc_port": grpc_port, **taken}
    return [part for name, number in numbers.items() for part in (f"--{name.replace('_', '-')}", str(number))]


def held_port(owner: object) -> int:
    """A TCP port that is kept for servers of this owner, also while none of them runs, until the owner is gone.

    Without it somebody else can have the port between the end of a server and its next start: another test that
    looks for a free one, or a client that tries to connect to the dead server and is given, as the port of its own
    end, the very one that it calls: it then is connected with itself, and the server finds its address in use.
    """
    holder = _bound()
    # Who listens with SO_REUSEADDR, as servers do, may still do it; connections are refused until then.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    weakref.finalize(owner, holder.close)
    return int(holder.getsockname()[1])


def _bound() -> socket.socket:
    """A socket that has a port for itself, and does not listen."""
    while True:
        bound = socket.socket()
        try:
            bound.bind(("127.0.0.1", random.randint(_FIRST, _LAST)))
        except OSError as error:
            bound.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return bound
