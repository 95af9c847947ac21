"""How the command starts, and how it says that it cannot."""

import signal
import socket
from pathlib import Path

import httpx
import pytest

import ratus
from tests.app.conftest import Start
from tests.mongod import Mongod
from tests.ports import free_port, port_args
from tests.server import Server, run


def one_line(*args: str, status: int = 1) -> str:
    """The one line that a start that cannot work says."""
    result = run(*args)
    assert result.returncode == status, result
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_version_and_help() -> None:
    assert run("--version").stdout == f"ratus {ratus.__version__}\n"
    for args, words in (
        (["--help"], ["serve", "gateway", "durable"]),
        (["serve", "--help"], ["--sqlite-path", "SQLITE_PATH", "72h0m0s", "--chore-initial-random", "ratus serve"]),
        (["gateway", "--help"], ["--target", "TARGET"]),
    ):
        result = run(*args)
        assert result.returncode == 0
        assert all(word in result.stdout for word in words), result.stdout


def test_the_first_line_says_what_is_served_where(start: Start, tmp_path: Path) -> None:
    server = start("--sqlite-path", str(tmp_path / "q.db"))
    assert server.line == (
        f"ratus {ratus.__version__} serves REST on http://127.0.0.1:{server.port} and gRPC on {server.target}; "
        f"engine sqlite, file {tmp_path / 'q.db'}"
    )
    assert httpx.get(server.url + "/readyz", timeout=60).status_code == 200


def test_settings_come_from_the_environment_too(start: Start, tmp_path: Path) -> None:
    env = {"SQLITE_PATH": str(tmp_path / "env.db"), "PAGINATION_MAX_LIMIT": "7", "CHORE_INTERVAL": "1m"}
    server = start(env=env)
    assert (tmp_path / "env.db").exists()
    assert httpx.get(server.url + "/v1/topics?limit=7", timeout=60).status_code == 200
    assert httpx.get(server.url + "/v1/topics?limit=8", timeout=60).status_code == 400


def test_of_a_repeated_option_the_last_counts(start: Start, tmp_path: Path) -> None:
    server = start("--sqlite-path", str(tmp_path / "a.db"), "--sqlite-path", str(tmp_path / "b.db"))
    assert server.line.endswith("b.db")
    assert not (tmp_path / "a.db").exists()


def test_a_face_can_be_turned_off(start: Start) -> None:
    server = start("--engine", "memdb", "--grpc-port", "0")
    assert "gRPC" not in server.line
    assert "engine memory" in server.line
    assert httpx.get(server.url + "/livez", timeout=60).status_code == 200
    server = start("--engine", "memory", "--port", "0")
    assert "REST" not in server.line
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/livez", timeout=60)


def test_the_password_of_the_database_is_not_shown(start: Start) -> None:
    uri = f"mongodb://user:secret@127.0.0.1:{free_port()}/"
    server = start("--engine", "mongodb", "--mongodb-uri", uri)
    assert "secret" not in server.line
    assert "collection ratus.tasks on 127.0.0.1:" in server.line


@pytest.mark.parametrize("option", ["port", "grpc_port"])
def test_a_port_that_is_taken(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in one_line("serve", "--engine", "memory", *port_args(**{option: port}))


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["--engine", "nosuch"], 2),
        (["--port", "65536"], 2),
        (["--chore-interval", "soon"], 2),
        (["--chore-interval", "-1s"], 2),
        (["--nosuch"], 2),
        (["--port", "0", "--grpc-port", "0"], 1),
        (["--bind", "203.0.113.1"], 1),
        (["--engine", "mongodb", "--mongodb-uri", "nonsense"], 1),
        (["--engine", "mongodb", "--mongodb-uri", "mongodb://[::1"], 1),
        (["--sqlite-path", "/nosuch/dir/q.db"], 1),
    ],
)
def test_a_start_that_cannot_work(args: list[str], status: int) -> None:
    assert one_line(
        "serve", "--engine", "memory" if args[0] != "--sqlite-path" else "sqlite", *port_args(), *args, status=status
    )


def test_a_file_that_is_no_queue(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    assert "is not a Ratus queue" in one_line("serve", "--sqlite-path", str(path), *port_args())
    assert path.read_text() == "my notes"


def test_a_file_that_another_process_holds(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "q.db")
    start("--sqlite-path", path)
    assert "is held by another process" in one_line("serve", "--sqlite-path", path, *port_args())


def test_a_gateway_needs_a_target() -> None:
    assert "--target" in one_line("gateway", status=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_on_a_signal(tmp_path: Path, number: int) -> None:
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        assert httpx.get(server.url + "/livez", timeout=60).status_code == 200
        assert server.stop(number) == 0
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith("q.db")) == ["q.db", "q.db.lock"]
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_logs_can_be_json(tmp_path: Path) -> None:
    with Server(tmp_path / "log", "--engine", "memory", "--log-format", "json") as server:
        server.stop()
    assert '"message": "draining"' in (tmp_path / "log").read_text()


def test_a_database_that_is_down_at_first(start: Start, mongod: Mongod) -> None:
    database = Mongod()
    try:
        uri = f"mongodb://127.0.0.1:{database.port}/"
        server = start("--engine", "mongodb", "--mongodb-uri", uri)
        assert httpx.get(server.url + "/livez", timeout=60).status_code == 200
        assert httpx.get(server.url + "/readyz", timeout=60).status_code == 503
        answer = httpx.post(server.url + "/v1/topics/t/tasks/1", json={}, timeout=60)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"].startswith("service unavailable")
        database.start()
        for _ in range(100):  # each takes as long as the server looks for the database
            if (answer := httpx.get(server.url + "/readyz", timeout=60)).status_code == 200:
                break
        assert answer.status_code == 200
        assert httpx.post(server.url + "/v1/topics/t/tasks/1", json={}, timeout=60).status_code == 201
    finally:
        database.close()
