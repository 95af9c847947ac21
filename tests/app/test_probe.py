"""The health check of containers, as the command that it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.conftest import Start
from tests.certificates import Authority
from tests.ports import free_port

MEMORY = ("--engine", "memory")


def probe(*args: str, **env: str) -> tuple[int, str]:
    """The exit status, and what it says."""
    command = [sys.executable, "-m", "ratus.probe", *args]
    result = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, timeout=30
    )
    assert result.stdout == ""
    assert result.stderr.count("\n") == (1 if result.returncode else 0), result.stderr
    return result.returncode, result.stderr.strip()


@pytest.mark.parametrize("path", [[], ["/readyz"], ["/livez"]])
def test_a_server_that_serves(start: Start, path: list[str]) -> None:
    server = start(*MEMORY)
    assert probe(*path, PORT=str(server.port)) == (0, "")
    assert probe(*path, PORT=str(server.port), BIND="0.0.0.0") == (0, "")


def test_a_server_that_is_not_ready(start: Start) -> None:
    gateway = start("--target", f"127.0.0.1:{free_port()}", command="gateway")
    assert probe(PORT=str(gateway.port)) == (1, "/readyz: 503")
    assert probe("/livez", PORT=str(gateway.port)) == (0, "")


def test_no_server() -> None:
    status, text = probe(PORT=str(free_port()))
    assert status == 1
    assert "refused" in text
    assert probe(PORT="soon")[0] == 1


def test_a_server_with_tls(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue()
    shown = {"TLS_CERT": str(pair.cert), "TLS_KEY": str(pair.key)}
    server = start(*MEMORY, env=shown)
    assert probe(PORT=str(server.port), **shown) == (0, "")
    assert probe(PORT=str(server.port))[0] == 1


def test_a_server_that_wants_client_certificates(start: Start, tmp_path: Path) -> None:
    authority, clients = Authority(tmp_path), Authority(tmp_path)
    pair, client = authority.issue(), clients.issue()
    shown = {"TLS_CERT": str(pair.cert), "TLS_KEY": str(pair.key)}
    server = start(*MEMORY, env={**shown, "TLS_CLIENT_CA": str(clients.file)})
    settings = {**shown, "TLS_CLIENT_CA": str(clients.file), "PORT": str(server.port)}
    assert probe(**settings, PROBE_CERT=str(client.cert), PROBE_KEY=str(client.key)) == (0, "")
    assert probe(**settings)[0] == 1  # the certificate of the server is signed by another authority

    server = start(*MEMORY, env={**shown, "TLS_CLIENT_CA": str(authority.file)})
    assert probe(**shown, TLS_CLIENT_CA=str(authority.file), PORT=str(server.port)) == (0, "")
