"""What goes wrong between a command and its server, and what the user is told."""

import json
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from ratus import errors
from ratus.commands.failures import Exit, exit_code
from ratus.v1 import topic_service_pb2 as topics_pb
from tests.commands.conftest import Ratus
from tests.server import Server, run


def test_every_error_has_an_exit_code() -> None:
    codes = {
        errors.BadRequest("x"): Exit.USAGE,
        errors.TooLarge("x"): Exit.USAGE,
        errors.NotFound(): Exit.NOT_FOUND,
        errors.TaskExists(): Exit.CONFLICT,
        errors.TaskNotPending(): Exit.CONFLICT,
        errors.NonceMismatch(): Exit.CONFLICT,
        errors.StorageUnavailable(): Exit.UNAVAILABLE,
        errors.Draining(): Exit.UNAVAILABLE,
        errors.TooMany("x"): Exit.UNAVAILABLE,
        errors.Unsupported("x"): Exit.ERROR,
        errors.Internal(): Exit.ERROR,
    }
    assert {error: exit_code(error) for error in codes} == codes


def test_one_line_says_that_there_is_no_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unused.getsockname()[1]}"
        result = run("topics", "--target", target)
    assert result.returncode == 5
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"cannot reach {target}: is `ratus serve` running there?" in result.stderr


def test_of_several_targets_one_must_serve(ratus: Ratus) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        ratus("push", "t", "--id", "a")
        assert ratus.lines("topics", "--target", f"{dead},{ratus.target}") == [{"name": "t", "count": 1}]


def test_what_is_no_grpc(ratus: Ratus, server: Server) -> None:
    assert "is it the port of REST?" in ratus("topics", "--target", f"127.0.0.1:{server.port}", code=5).stderr
    assert "TLS" in ratus("topics", "--tls", code=5).stderr
    assert "is the name right?" in ratus("topics", "--target", "no.such.host.invalid:1", code=5).stderr


def test_what_is_not_there(ratus: Ratus) -> None:
    for args in (["tasks", "--id", "a"], ["commit", "a"], ["claim", "--id", "a"]):
        assert "there is no such task" in ratus(*args, code=3).stderr
    assert "no task of topic t is due" in ratus("claim", "t", code=3).stderr


class Recording(grpc.GenericRpcHandler):
    """Answers one call, and keeps the metadata that came with it."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}

    def service(self, details: Any) -> Any:
        if details.method != "/ratus.v1.TopicService/ListTopics":
            return None
        self.metadata = dict(details.invocation_metadata)
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: topics_pb.ListTopicsResponse(topics=[{"name": "t", "count": 1}]),
            topics_pb.ListTopicsRequest.FromString,
            topics_pb.ListTopicsResponse.SerializeToString,
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cert.pem` and `key.pem` of localhost, which sign themselves."""
    directory = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"]
    command = ["openssl", "req", "-x509", "-days", "2", *key, "-out", "cert.pem", *subject]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory


@pytest.fixture
def foreign(certificates: Path) -> Iterator[tuple[str, Recording]]:
    """A server with TLS that asks for a certificate, and knows one call only."""
    cert, key = (certificates / "cert.pem").read_bytes(), (certificates / "key.pem").read_bytes()
    recording = Recording()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[recording])
    credentials = grpc.ssl_server_credentials([(key, cert)], cert, require_client_auth=True)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield f"localhost:{port}", recording
    server.stop(None).wait()


def test_tls_and_metadata(
    foreign: tuple[str, Recording], certificates: Path, monkeypatch: pytest.MonkeyPatch, ratus: Ratus
) -> None:
    target, recording = foreign
    files = {name: str(certificates / f"{name}.pem") for name in ("cert", "key")}
    own = ["--cert", files["cert"], "--key", files["key"]]
    args = ["topics", "--target", target, "--ca", files["cert"], *own]
    assert ratus.lines(*args, "--metadata", "Authorization=Bearer a=b", "--metadata", "x=1") == [
        {"name": "t", "count": 1}
    ]
    assert (recording.metadata["authorization"], recording.metadata["x"]) == ("Bearer a=b", "1")
    monkeypatch.setenv("RATUS_METADATA", "authorization=Bearer of the environment\ny=2")
    ratus(*args)
    assert (recording.metadata["authorization"], recording.metadata["y"]) == ("Bearer of the environment", "2")
    assert "TLS" in ratus("topics", "--target", target, *own, code=5).stderr  # signed by nobody
    ratus("topics", "--target", target, "--ca", files["cert"], code=5)  # without a certificate of ours
    assert "does not know this call" in ratus(*["tasks", *args[1:]], code=1).stderr
    broken = certificates / "broken.pem"
    broken.write_text("no certificate")
    assert ratus("topics", "--target", target, "--ca", str(broken), code=5).stderr


def test_a_reader_that_has_seen_enough(ratus: Ratus) -> None:
    tasks = "".join(json.dumps({"_id": f"{n:05}", "topic": "t", "payload": "x" * 1000}) + "\n" for n in range(2000))
    ratus("import", "-", input=tasks)
    process = ratus.start("tasks", "--all")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 1
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
