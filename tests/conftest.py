"""Fixtures for all tests: real MongoDB servers, and a collection of its own for each test."""

import os
import secrets
from collections.abc import Iterator

import pytest

from ratus.config import MongoDBSettings
from tests.mongod import MissingMongod, Mongod, find_mongod, replica_set, standalone


def need_mongod() -> None:
    """Skip the test where there is no mongod, but fail it in CI."""
    try:
        find_mongod()
    except MissingMongod as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(f"NOT TESTED on MongoDB: {error}")


@pytest.fixture(scope="session")
def mongod() -> Iterator[Mongod]:
    """The one server of a replica set; `mongod.uri` names it."""
    need_mongod()
    with replica_set() as members:
        yield members[0]


@pytest.fixture(scope="session")
def standalone_mongod() -> Iterator[Mongod]:
    """A server that is in no replica set."""
    need_mongod()
    with standalone() as server:
        yield server


def fresh_settings(server: Mongod) -> Iterator[MongoDBSettings]:
    """Settings for a database of their own, which is dropped afterwards.

    The name of the database is the name of the client too, so that fail points can be made to meet it alone.
    """
    name = f"test_{secrets.token_hex(6)}"
    uri = f"{server.uri}{'&' if '?' in server.uri else '?'}appName={name}"
    yield MongoDBSettings(uri=uri, database=name)
    database = server.client[name]
    for collection in database.list_collection_names():  # dropping the database itself takes 100 ms
        database.drop_collection(collection)


@pytest.fixture
def mongodb_settings(mongod: Mongod) -> Iterator[MongoDBSettings]:
    """Settings for a database of this test on the replica set."""
    yield from fresh_settings(mongod)


@pytest.fixture
def standalone_settings(standalone_mongod: Mongod) -> Iterator[MongoDBSettings]:
    """Settings for a database of this test on the standalone server."""
    yield from fresh_settings(standalone_mongod)
