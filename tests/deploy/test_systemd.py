"""The systemd unit: by systemd itself, and whether it fits to the server."""

import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ratus.app import GRACE
from tests.deploy.tools import DEPLOY, need, option_variables
from tests.server import Server, run

UNIT = DEPLOY / "systemd" / "ratus.service"
EXPOSURE = 15  # tenths, from 0 to 100, of which systemd calls up to 40 "OK"


def unit() -> dict[str, list[str]]:
    """The settings of all sections, each with its values, as some are repeated."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/ratus/bin/", f"{Path(sys.executable).parent}/"))
    return path


def test_systemd_accepts_it(installed: Path) -> None:
    verified = subprocess.run([need("systemd-analyze"), "verify", installed], capture_output=True, text=True)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_systemd_finds_it_hardened(installed: Path) -> None:
    command = [need("systemd-analyze"), "security", "--no-pager", "--offline=yes", f"--threshold={EXPOSURE}", installed]
    rated = subprocess.run(command, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout + rated.stderr


def test_it_fits_to_the_server() -> None:
    settings = unit()
    assert int(settings["TimeoutStopSec"][0]) > GRACE
    assert {line.split("=")[0] for line in settings["Environment"]} <= option_variables()
    (command,) = settings["ExecStart"]
    program, *args = shlex.split(command)
    assert program.endswith("/ratus")
    assert run(*args, "--help").returncode == 0
    assert settings["WorkingDirectory"] == [f"%S/{settings['StateDirectory'][0]}"]
    assert settings["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


def test_the_server_needs_no_memory_that_is_writable_and_executable(tmp_path: Path) -> None:
    assert unit()["MemoryDenyWriteExecute"] == ["yes"]
    deny = "import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and 1)"  # PR_SET_MDWE
    if subprocess.run([sys.executable, "-c", deny]).returncode:
        pytest.skip("NOT TESTED on a kernel before 6.3")
    denied = (
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0);"
        "os.execv(sys.executable, [sys.executable, '-c', 'from ratus.cli import main; main()', *sys.argv[1:]])"
    )
    with Server(
        tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db"), program=(sys.executable, "-c", denied)
    ) as server:
        assert httpx.post(f"{server.url}/v1/topics/t/tasks/1", json={"payload": 1}).status_code == 201
        assert httpx.post(f"{server.url}/v1/topics/t/promises").status_code == 200
