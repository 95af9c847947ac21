"""Ports that are kept for the servers of a test."""

import errno
import gc
import socket

import pytest

from tests.ports import held_port


class Owner:
    """Whoever starts servers."""


def test_a_held_port_is_for_servers_of_its_owner() -> None:
    owner = Owner()
    port = held_port(owner)
    for _ in range(2):  # as often as it is started
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass
        with pytest.raises(ConnectionRefusedError):  # nobody listens, and no connection is given the port
            socket.create_connection(("127.0.0.1", port))


def test_nobody_else_is_given_a_held_port() -> None:
    owner = Owner()
    port = held_port(owner)
    with socket.socket() as other, pytest.raises(OSError) as caught:
        other.bind(("127.0.0.1", port))
    assert caught.value.errno == errno.EADDRINUSE
    del owner
    gc.collect()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
