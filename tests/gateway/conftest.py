"""A server for the tests of the REST face, and names that no other test has."""

import secrets
from collections.abc import Iterator

import pytest

from tests.gateway.serving import Rest, serving


@pytest.fixture(scope="module")
def rest() -> Iterator[Rest]:
    """A server that the tests of a module share."""
    with serving() as rest:
        yield rest


@pytest.fixture(scope="module", params=["service", "remote"])
def any_rest(request: pytest.FixtureRequest) -> Iterator[Rest]:
    """A server in front of the service in its process, and one in front of a gRPC server."""
    with serving(remote=request.param == "remote") as rest:
        yield rest


@pytest.fixture
def topic() -> str:
    return "t" + secrets.token_hex(6)
