"""Ports that several processes of ours share, and nobody else."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from ratus.config import Listen
from ratus.errors import StartError


@contextlib.contextmanager
def held(face: str, listen: Listen) -> Iterator[None]:
    """Hold the port of a face for those who listen there with SO_REUSEPORT; StartError if it is taken or not ours."""
    with contextlib.ExitStack() as stack:
        try:
            for holder in _holders(listen):
                stack.enter_context(holder)
        except OSError as error:
            raise StartError(f"cannot serve {face} on {listen.address}: {error.strerror}") from None
        yield


def _holders(listen: Listen) -> Iterator[socket.socket]:
    """A socket on each address of a name; addresses that this machine does not have are passed over, unless all are."""
    failure: OSError | None = None
    found = False
    for family, *_, address in socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM):
        try:
            holder = _hold(family, address[:2])
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            failure = error
        else:
            found = True
            yield holder
    if failure is not None and not found:
        raise failure


def _hold(family: int, address: tuple[Any, ...]) -> socket.socket:
    """A bound socket that does not listen, so that it is given no connections.

    Only listening shows whether somebody listens, and SO_REUSEADDR must be set for that because of connections that
    linger. The holder has it taken off again: then whoever comes later without SO_REUSEPORT, or to listen as is done
    here, is refused although nobody may listen yet. There is no moment in which the port is free for others.
    """
    with socket.create_server(address, family=family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder = socket.socket(family)
        try:
            if family == socket.AF_INET6:
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            holder.close()
            raise
        return holder
