"""A server for the tests of the REST face, and names that no other test has."""

import secrets
from collections.abc import Iterator

import pytest
from rest_server import Rest, serving


@pytest.fixture(scope="session")
def rest() -> Iterator[Rest]:
    """A server that all tests share."""
    with serving() as rest:
        yield rest


@pytest.fixture
def topic() -> str:
    return "t" + secrets.token_hex(6)
