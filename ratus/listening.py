"""Sockets that a face listens on."""

import errno
import os
import socket

from ratus.config import Listen
from ratus.errors import StartError

_BACKLOG = 2048


def bind(face: str, listen: Listen) -> list[socket.socket]:
    """Listening sockets on all addresses of a name; StartError if one is taken or none is ours."""
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    try:
        for family, *_, address in socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM):
            try:
                sockets.append(
                    socket.create_server(address[:2], family=family, backlog=_BACKLOG, reuse_port=listen.shared)
                )
            except OSError as error:
                failure = error
                if error.errno == errno.EADDRINUSE:
                    raise
        if not sockets and failure is not None:
            raise failure
    except socket.gaierror as error:
        raise StartError(f"cannot serve {face} on {listen.address}: {error.strerror}") from None
    except OSError as error:  # whose text asyncio may have added to
        why = os.strerror(error.errno or 0)
        raise StartError(f"cannot serve {face} on {listen.address}: {why}") from None
    return sockets
