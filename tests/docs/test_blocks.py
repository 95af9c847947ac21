"""Every command and every snippet of the documentation does what stands there."""

import asyncio
import json
import os
import shutil
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import NEEDS, NOT_RUN, READ, ROOT, RUN, Block, blocks, pages
from tests.docs.place import Place
from tests.examples.cpp import compiled_worker
from tests.mongod import Mongod
from tests.rpc.test_examples import node_script
from tests.server import Server

ALL = {page: list(blocks(page)) for page in pages()}
TOOLS = ("bash", "curl", "jq")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("docs")
    with Server(directory / "log", "--sqlite-path", str(directory / "ratus.db")) as server:
        yield server


@pytest.fixture
def place(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    def mongod_port() -> int:
        mongod: Mongod = request.getfixturevalue("mongod")
        return mongod.port

    deletion = urllib.request.Request(f"{server.url}/v1/topics", method="DELETE")
    with urllib.request.urlopen(deletion, timeout=20), Place(tmp_path, server, mongod_port) as place:
        yield place


def runnable(found: list[Block]) -> Iterator[tuple[Block, Block | None]]:
    """The blocks to run, each with the one that says what it prints."""
    for block, after in zip_longest(found, found[1:]):
        if block.language in RUN and not block.not_run:
            yield block, after if after is not None and after.note == "output" else None


PAGES = [page for page in ALL if any(True for _ in runnable(ALL[page]))]


@pytest.mark.timeout(900)  # a worker may have to be compiled
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of(page: Path, place: Place) -> None:
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        message = f"{', '.join(missing)} needed to run what is in the documentation"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(f"NOT TESTED: {message}")
    for block, output in runnable(ALL[page]):
        if block.needs == "cpp":
            place.bring_cpp(compiled_worker())
        if block.needs == "node":
            place.bring_node(asyncio.run(node_script("poll.js")).parent)
        place.run(block, output)


def test_blocks_say_what_they_are() -> None:
    for block in (block for found in ALL.values() for block in found):
        known = block.language in RUN | READ or (block.language == "text" and block.note in ("", "output"))
        assert known or block.not_run, f"{block.place}: {block.language!r} is neither run nor read"
        notes = {"", "output", "keeps running", f"not run: {block.not_run}", *(f"needs: {need}" for need in NEEDS)}
        assert block.note in notes, f"{block.place}: {block.note!r} is no note"


def test_blocks_that_are_not_run_have_a_reason_that_counts(record_property: Callable[[str, object], None]) -> None:
    left_out = Counter(block.not_run for found in ALL.values() for block in found if block.not_run)
    for kind, number in left_out.most_common():
        print(f"{number} not run: {kind}")
        record_property(f"not run: {kind}", number)
    assert set(left_out) <= set(NOT_RUN)


@pytest.mark.parametrize("language", sorted(READ))
def test_blocks_can_be_read(language: str) -> None:
    for block in (block for found in ALL.values() for block in found if block.language == language):
        (json.loads if language == "json" else yaml.safe_load)(block.text)
