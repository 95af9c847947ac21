"""Tiny measurements of a real server: that the bench still works, not how fast anything is."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import batches, fill, peers, raw, services, unary
from bench.contenders import compare
from bench.results import Row, load
from bench.setup import SQLITE, STANDALONE, Bench, bare
from tests.server import Server

SECONDS = 0.2


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        yield Bench(tmp_path_factory.mktemp("bench"), stack, runs=1, seconds=SECONDS)


@pytest.fixture(scope="module")
def server(bench: Bench) -> Iterator[Server]:
    """With a few tasks stored."""
    with contextlib.ExitStack() as stack:
        queue = bench.queue(SQLITE)
        fill.fill(queue, fill.mixed(100, [fill.TOPIC, fill.BACKLOG]))
        yield queue.serve(stack)
    assert not list(bench.directory.glob(f"{queue.name}*"))


def test_unary_calls(server: Server) -> None:
    assert unary.cycle(server.target, SECONDS, topics=3) > 0


@pytest.mark.parametrize("options", [[], ["--work", "--payload", "1000", "--topics", "3"]])
def test_batches(server: Server, options: list[str]) -> None:
    assert batches.drive(server.target, SECONDS, *options) > 0


@pytest.mark.parametrize("face", ["rest", "grpc"])
def test_requests_alone(server: Server, face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unary, "ROUNDS", 3)
    spent = unary.alone(face, server.port if face == "rest" else server.grpc_port)
    assert len(spent) == 3
    assert all(value > 0 for value in spent)


def test_dispatch(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        p50, p99 = peers.dispatch(bench, bench.queue(SQLITE).serve(stack).target)
    assert 0 < p50 <= p99


def test_floors(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unary, "ROUNDS", 3)
    with contextlib.ExitStack() as stack:
        port = bare(stack, "grpc")
        assert unary.cycle(f"127.0.0.1:{port}", SECONDS, "empty") > 0
        assert unary.alone("bare_grpc", port)[0] > 0
        assert unary.alone("bare_rest", bare(stack, "uvicorn"))[0] > 0
    assert all(value > 0 for value in unary.alone("mongodb", bench.mongod(STANDALONE).uri))
    [row] = compare([batches.SECTION], [raw.contender(bench, SQLITE, 10)], 1)
    assert row.values[0] > 0


def test_peers_that_are_not_installed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "PATH", str(bench.directory))
    monkeypatch.setattr(services, "POSTGRES", bench.directory)
    rows = compare([peers.SINGLY], peers.peers(bench, "singly", ""), 1)
    packages = ("beanstalkd", "nats-server", "postgresql", "redis-server", "redis-server")
    assert [row.note for row in rows] == [f"not installed: apt-get install {package}" for package in packages]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Bench] = []

    def measure(bench: Bench) -> list[Row]:
        asked.append(bench)
        return [Row("Speed", "calls/s", "SQLite", (1.0, 2.0), note="fsync")]

    monkeypatch.setattr(command, "SECTIONS", {"tiny": measure})
    picture = tmp_path / "drawn.svg"
    options = ["--runs", "2", "--results", str(tmp_path / "results"), "--directory", str(tmp_path)]
    assert command.main(["tiny", "--full", *options, "--picture", str(picture)]) == 0
    assert (asked[0].runs, asked[0].seconds, asked[0].stored) == (2, command.FULL_SECONDS, command.FULL_STORED)
    [kept] = (tmp_path / "results").iterdir()
    about, rows = load(kept)
    assert rows == [Row("Speed", "calls/s", "SQLite", (1.0, 2.0), note="fsync")]
    output = capsys.readouterr().out
    assert "| SQLite" in output
    assert all(line in output for line in about.values())
    assert picture.exists()
    with pytest.raises(SystemExit):
        command.main(["nonsense"])
