"""What the doctor finds."""

from pathlib import Path

from click.testing import CliRunner

from ratus.cli import cli
from tests.app.conftest import Start, engine_args, start  # noqa: F401 (fixtures)
from tests.commands.conftest import Ratus
from tests.ports import free_port
from tests.server import Server


def test_a_healthy_server(ratus: Ratus, server: Server) -> None:
    found = ratus.one("doctor", "--rest", server.url, "--thorough")
    assert (found["ok"], found["target"]) == (True, ratus.target)
    assert [check["name"] for check in found["checks"]] == [
        *("connection", "version", "health", "clock", "latency", "reflection"),
        *("database", "journal", "disk", "integrity", "counts", "recovery", "rest"),
    ]
    assert all(check["outcome"] in ("ok", "warning") for check in found["checks"])
    by_name = {check["name"]: check["detail"] for check in found["checks"]}
    assert "engine sqlite" in by_name["version"]
    assert by_name["reflection"] == "6 services"


def test_on_every_engine(start: Start, engine_args: list[str]) -> None:  # noqa: F811
    ratus = Ratus(start(*engine_args).target)
    for _ in range(100):  # each takes a while; MongoDB makes its indexes when the server serves already
        result = CliRunner().invoke(cli, ["doctor"], env={"RATUS_TARGET": ratus.target})
        if result.exit_code == 0:
            break
    found = ratus.one("doctor")
    assert found["ok"]
    names = {check["name"] for check in found["checks"]}
    assert names >= ({"indexes", "change stream", "storage clock"} if "mongodb" in engine_args else {"database"})


def test_what_fails(ratus: Ratus, server: Server, tmp_path: Path) -> None:
    ratus("import", "-", input='{"_id":"a","topic":"t","state":1,"deadline":"2020-01-01T00:00:00Z"}')
    url = f"http://127.0.0.1:{free_port()}"
    result = ratus("doctor", "--rest", url, code=1)
    assert f"cannot reach {url}" in result.stdout
    assert "checks failed" in result.stderr
    assert "answered 404: not found" in ratus("doctor", "--rest", f"{server.url}/nosuch", code=1).stdout
    with Server(tmp_path / "log", "--engine", "memory", "--chore-interval", "0") as idle:
        ratus = Ratus(idle.target)
        ratus("import", "-", input='{"_id":"a","topic":"t","state":1,"deadline":"2020-01-01T00:00:00Z"}')
        assert "--chore-interval" in ratus("doctor", code=1).stdout


def test_a_storage_that_is_down(start: Start) -> None:  # noqa: F811
    server = start("--engine", "mongodb", "--mongodb-uri", f"mongodb://127.0.0.1:{free_port()}/")
    result = Ratus(server.target)("doctor", code=1)
    assert '"name":"health","outcome":"failed"' in result.stdout
    assert '"name":"storage","outcome":"failed"' in result.stdout
