"""TLS on both faces of real processes: what they show and want to see, files that are renewed, and what cannot work."""

import contextlib
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import server_service_pb2 as info
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.server_service_pb2_grpc import ServerServiceStub
from ratus.v1.task_pb2 import Task
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from tests.app.conftest import Start
from tests.app.test_start import one_line
from tests.certificates import Authority, Pair
from tests.ports import free_port, port_args
from tests.server import Server

MEMORY = ("--engine", "memory")
SECONDS = 20.0  # that a test waits for a state


def shows(pair: Pair) -> tuple[str, ...]:
    """The options of a server that shows this certificate."""
    return "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def rest_answers(server: Server, context: ssl.SSLContext) -> bool:
    """Whether a new connection to the REST face gets an answer; False if TLS fails."""
    try:
        with httpx.Client(verify=context, timeout=60) as client:
            return client.get(f"{server.url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def rpc_answers(server: Server, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a new connection to the gRPC face gets an answer; False if TLS fails."""
    options = (("grpc.use_local_subchannel_pool", 1),)  # else a connection that is open may be used again
    channel = (
        grpc.secure_channel(server.target, credentials, options)
        if credentials
        else grpc.insecure_channel(server.target, options)
    )
    with channel:
        try:
            ServerServiceStub(channel).GetServerInfo(info.GetServerInfoRequest(), timeout=10)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            return False
        return True


def both_answer(server: Server, authority: Authority, client: Pair | None = None) -> tuple[bool, bool]:
    """Whether the faces answer a client that trusts this CA and shows this certificate."""
    return rest_answers(server, authority.context(client)), rpc_answers(server, authority.credentials(client))


def until(state: Callable[[], bool]) -> None:
    """Return once it is so; each look is a connection, a process or a file, so that this is no busy loop."""
    end = time.monotonic() + SECONDS
    while not state():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.05)


def log_says(directory: Path, words: str) -> Callable[[], bool]:
    return lambda: words in (directory / "server.log").read_text()


def test_both_faces_show_the_certificate(start: Start, authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue()
    server = start(*MEMORY, *shows(pair))
    assert f"REST on https://127.0.0.1:{server.port} and gRPC on {server.target} with TLS;" in server.line
    assert both_answer(server, authority) == (True, True)
    assert both_answer(server, Authority(tmp_path)) == (False, False)  # which has not signed it
    assert not rpc_answers(server, None)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/readyz", timeout=60)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"this is no TLS")
    assert both_answer(server, authority) == (True, True)
    server.stop()
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_settings_of_tls_come_from_the_environment_too(start: Start, authority: Authority) -> None:
    pair = authority.issue()
    server = start(*MEMORY, env={"TLS_CERT": str(pair.cert), "TLS_KEY": str(pair.key)})
    assert "REST on https://" in server.line
    assert rpc_answers(server, authority.credentials())


@pytest.mark.parametrize("face", ["rest", "grpc"])
def test_nothing_older_than_tls_1_2(start: Start, authority: Authority, face: str) -> None:
    server = start(*MEMORY, *shows(authority.issue()))

    def version(newest: ssl.TLSVersion) -> str | None:
        context = authority.context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2" if face == "grpc" else "http/1.1"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
        address = "127.0.0.1", server.grpc_port if face == "grpc" else server.port
        with (
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return connection.version()

    assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert version(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        version(ssl.TLSVersion.TLSv1_1)


def test_client_certificates_are_required(start: Start, authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path)
    server = start(*MEMORY, *shows(authority.issue()), "--tls-client-ca", str(clients.file))
    assert both_answer(server, authority, clients.issue()) == (True, True)
    assert both_answer(server, authority) == (False, False)
    assert both_answer(server, authority, authority.issue()) == (False, False)  # signed by another CA


def test_the_authority_of_clients_is_renewed(start: Start, authority: Authority, tmp_path: Path) -> None:
    before, after = Authority(tmp_path), Authority(tmp_path)
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(before.file.read_bytes())
    server = start(*MEMORY, *shows(authority.issue()), "--tls-client-ca", str(trusted))
    old, new = before.issue(), after.issue()
    assert both_answer(server, authority, new) == (False, False)
    trusted.write_bytes(after.file.read_bytes())
    until(lambda: both_answer(server, authority, new) == (True, True))
    assert both_answer(server, authority, old) == (False, False)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_outlives_its_authority(
    start: Start, authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    before, after = Authority(tmp_path), Authority(tmp_path)
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(before.file.read_bytes())
    server = start(*MEMORY, *shows(authority.issue()), "--tls-client-ca", str(trusted))
    context = authority.context(before.issue())
    context.maximum_version = version

    def ask(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
        ):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(12), connection.session, connection.session_reused

    answer, session, resumed = ask(None)
    assert (answer, resumed) == (b"HTTP/1.1 200", False)
    assert ask(session)[::2] == (b"HTTP/1.1 200", True)
    trusted.write_bytes(after.file.read_bytes())
    until(lambda: rest_answers(server, authority.context(after.issue())))
    try:
        answer, _, resumed = ask(session)
    except OSError:
        return  # refused at once, as in TLS 1.2
    assert (answer, resumed) == (b"", False)


@contextlib.contextmanager
def streams(server: Server, authority: Authority) -> Iterator[tuple[Iterator[str], Iterator[str]]]:
    """The bodies of the lines and the IDs of the tasks that a REST and a gRPC stream bring."""
    with (
        httpx.Client(base_url=server.url, verify=authority.context(), timeout=SECONDS) as client,
        client.stream("GET", "/v1/topics/rest/stream", headers={"Accept": "application/x-ndjson"}) as response,
        grpc.secure_channel(server.target, authority.credentials()) as channel,
    ):
        poll = PromiseServiceStub(channel).Poll(promises.PollRequest(topics=["grpc"]), timeout=60)
        yield (line for line in response.iter_lines() if line), (task.id for answer in poll for task in answer.tasks)


def insert(server: Server, authority: Authority, topic: str, id: str) -> None:
    with grpc.secure_channel(server.target, authority.credentials()) as channel:
        request = tasks.InsertTaskRequest(task=Task(id=id, topic=topic))
        TaskServiceStub(channel).InsertTask(request, wait_for_ready=True, timeout=10)


def test_a_renewed_certificate_is_for_new_connections(start: Start, authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server")
    server = start(*MEMORY, *shows(pair))
    with streams(server, authority) as (lines, ids):
        successor = Authority(tmp_path)
        assert successor.issue("server") == pair
        until(lambda: both_answer(server, successor) == (True, True))
        assert both_answer(server, authority) == (False, False)
        insert(server, successor, "rest", "1")
        insert(server, successor, "grpc", "2")
        assert '"_id":"1"' in next(lines)
        assert next(ids) == "2"


def put(path: Path, content: bytes) -> None:
    """Put a file in the place of another one, so that no half of it is ever seen."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def test_a_renewal_that_cannot_be_used_changes_nothing(start: Start, authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server")
    server = start(*MEMORY, *shows(pair))
    successor = Authority(tmp_path)
    renewed = successor.issue()
    put(pair.cert, renewed.cert.read_bytes())  # and its key comes late
    until(log_says(tmp_path, "key values mismatch"))
    assert both_answer(server, authority) == (True, True)
    put(pair.key, renewed.key.read_bytes()[:100])
    until(log_says(tmp_path, "PEM"))
    pair.cert.unlink()
    until(log_says(tmp_path, f"cannot read {pair.cert}"))
    assert both_answer(server, authority) == (True, True)
    put(pair.key, renewed.key.read_bytes())
    put(pair.cert, renewed.cert.read_bytes())
    until(lambda: both_answer(server, successor) == (True, True))
    warned = [line for line in (tmp_path / "server.log").read_text().splitlines() if "WARNING" in line]
    assert len(warned) == len({line.split("WARNING")[1] for line in warned})  # each once, not at every look


def test_idle_clients_do_not_hold_up_the_end(start: Start, authority: Authority, tmp_path: Path) -> None:
    server = start(*MEMORY, *shows(authority.issue()))
    with httpx.Client(base_url=server.url, verify=authority.context(), timeout=60) as client:
        assert client.get("/readyz").status_code == 200
        assert server.stop() == 0
    assert "timeout graceful shutdown exceeded" not in (tmp_path / "server.log").read_text()


def test_a_gateway_between_tls_and_tls(start: Start, authority: Authority, tmp_path: Path) -> None:
    inner, clients = Authority(tmp_path), Authority(tmp_path)
    server = start(*MEMORY, *shows(inner.issue()), "--tls-client-ca", str(clients.file))
    to_target = ["--target", server.target, "--target-ca", str(inner.file)]
    client = clients.issue()
    shown = ["--target-cert", str(client.cert), "--target-key", str(client.key)]

    gateway = start(*to_target, *shown, *shows(authority.issue()), command="gateway")
    assert f"https://127.0.0.1:{gateway.port}; target {server.target} with TLS" in gateway.line
    with httpx.Client(base_url=gateway.url, verify=authority.context(), timeout=60) as rest:
        assert rest.get("/readyz").status_code == 200
        assert rest.post("/v1/topics/t/tasks/1", json={}).status_code == 201
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{gateway.url}/readyz", timeout=60)

    for args in (to_target, ["--target", server.target, "--target-tls", *shown], ["--target", server.target]):
        gateway = start(*args, command="gateway")
        assert httpx.get(f"{gateway.url}/readyz", timeout=60).status_code == 503


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> dict[str, str]:
    """Files by name, most of them unusable."""
    pair, other = authority.issue(), authority.issue()
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    junk = tmp_path / "junk"
    junk.write_text("nothing of use\n")
    paths = {"cert": pair.cert, "key": pair.key, "other": other.key, "encrypted": encrypted, "junk": junk}
    return {name: str(path) for name, path in paths.items()} | {"ca": str(authority.file), "missing": "/nosuch.pem"}


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"tls-cert": "missing", "tls-key": "key"}, 1, "cannot read /nosuch.pem"),
        ({"tls-cert": "cert", "tls-key": "missing"}, 1, "cannot read /nosuch.pem"),
        ({"tls-cert": "junk", "tls-key": "key"}, 1, "not in the PEM format"),
        ({"tls-cert": "cert", "tls-key": "junk"}, 1, "not in the PEM format"),
        ({"tls-cert": "cert", "tls-key": "other"}, 1, "key values mismatch"),
        ({"tls-cert": "cert", "tls-key": "encrypted"}, 1, "encrypted"),
        ({"tls-cert": "cert", "tls-key": "key", "tls-client-ca": "junk"}, 1, "no certificate"),
        ({"tls-cert": "cert", "tls-key": "key", "tls-client-ca": "missing"}, 1, "cannot read /nosuch.pem"),
        ({"tls-cert": "cert"}, 2, "--tls-key"),
        ({"tls-key": "key"}, 2, "--tls-cert"),
        ({"tls-client-ca": "ca"}, 2, "--tls-cert"),
    ],
)
def test_files_that_cannot_be_used(files: dict[str, str], options: dict[str, str], status: int, words: str) -> None:
    args = [part for name, file in options.items() for part in (f"--{name}", files[file])]
    assert words in one_line("serve", *MEMORY, *port_args(), *args, status=status)


def test_a_port_that_is_taken(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = port_args(grpc_port=taken.getsockname()[1])
        assert "cannot serve gRPC" in one_line("serve", *MEMORY, *ports, *shows(authority.issue()))


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"tls-cert": "cert", "tls-key": "other"}, 1, "key values mismatch"),
        ({"tls-cert": "cert"}, 2, "--tls-key"),
        ({"target-ca": "missing"}, 1, "/nosuch.pem"),
        ({"target-ca": "junk"}, 1, "no certificate"),
        ({"target-cert": "cert", "target-key": "other"}, 1, "key values mismatch"),
        ({"target-cert": "cert"}, 2, "--target-key"),
        ({"target-key": "key"}, 2, "--target-cert"),
    ],
)
def test_files_that_a_gateway_cannot_use(
    files: dict[str, str], options: dict[str, str], status: int, words: str
) -> None:
    args = [part for name, file in options.items() for part in (f"--{name}", files[file])]
    assert words in one_line("gateway", "--port", str(free_port()), "--target", "127.0.0.1:1", *args, status=status)
