"""A server for the tests of the REST face, and names that no other test has."""

import secrets
from collections.abc import Iterator

import pytest
from rest_server import Rest, serving


@pytest.fixture(scope="module")
def rest() -> Iterator[Rest]:
    """A server that the tests of a module share."""
    with serving() as rest:
        yield rest


@pytest.fixture
def topic() -> str:
    return "t" + secrets.token_hex(6)
