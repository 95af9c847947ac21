"""Encrypted connections, and what is sent with every call."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import ratus
from ratus.core.service import Service
from ratus.rpc.promise_service import PromiseServicer
from ratus.rpc.task_service import TaskServicer
from ratus.v1 import promise_service_pb2_grpc, task_service_pb2_grpc
from tests.rpc.serving import Running


class Recorder(grpc.aio.ServerInterceptor):
    """Keeps the metadata of the last call."""

    def __init__(self) -> None:
        self.seen: dict[str, str | bytes] = {}

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        self.seen = dict(handler_call_details.invocation_metadata or ())
        return await continuation(handler_call_details)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.asynccontextmanager
async def serve(
    service: Service, authority: trustme.CA, *, name: str = "localhost", ask: bool = False
) -> AsyncIterator[tuple[str, Recorder]]:
    """A server with a certificate for a name; with `ask` it wants one of the client too."""
    certificate = authority.issue_cert(name)
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), chain)], authority.cert_pem.bytes() if ask else None, ask
    )
    recorder = Recorder()
    server = grpc.aio.server(interceptors=[recorder])
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(TaskServicer(service), server)
    promise_service_pb2_grpc.add_PromiseServiceServicer_to_server(PromiseServicer(service), server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield f"localhost:{port}", recorder
    await server.stop(None)


async def test_a_certificate_of_an_authority_that_is_trusted(service: Service, authority: trustme.CA) -> None:
    async with serve(service, authority) as (target, _):
        tls = ratus.TLS(authority.cert_pem.bytes())
        async with ratus.connect(target, tls=tls) as queue:
            await queue.insert("t", id="1")
            subscription = queue.subscribe("t")
            task = await subscription.next()
            assert task is not None
            await task.commit()
        async with ratus.connect(target, tls=True, patience="500ms") as queue:  # one that is not
            with pytest.raises(ratus.Unavailable):
                await queue.get_task("1")
        async with ratus.connect(target, patience="500ms") as queue:
            with pytest.raises(ratus.Unavailable):
                await queue.get_task("1")


async def test_files_and_a_certificate_of_the_client(service: Service, authority: trustme.CA, tmp_path: Path) -> None:
    mine = authority.issue_cert("worker")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    async with serve(service, authority, ask=True) as (target, _):
        tls = ratus.TLS(tmp_path / "ca.pem", str(tmp_path / "cert.pem"), tmp_path / "key.pem")
        async with ratus.connect(target, tls=tls) as queue:
            assert await queue.insert("t", id="1") == "1"
        without = ratus.TLS(tmp_path / "ca.pem")
        async with ratus.connect(target, tls=without, patience="500ms") as queue:
            with pytest.raises(ratus.Unavailable):
                await queue.get_task("1")


async def test_a_server_with_another_name(service: Service, authority: trustme.CA) -> None:
    async with serve(service, authority, name="queue.example.com") as (target, _):
        root = authority.cert_pem.bytes()
        async with ratus.connect(target, tls=ratus.TLS(root, server_name="queue.example.com")) as queue:
            assert await queue.insert("t", id="1") == "1"
        async with ratus.connect(target, tls=ratus.TLS(root), patience="500ms") as queue:
            with pytest.raises(ratus.Unavailable):
                await queue.get_task("1")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pem"):
        ratus.connect("localhost:1", tls=ratus.TLS(tmp_path / "none.pem"))


async def test_metadata_goes_with_every_call(service: Service, authority: trustme.CA, running: Running) -> None:
    async with serve(service, authority) as (target, recorder):
        tls = ratus.TLS(authority.cert_pem.bytes())
        async with ratus.connect(target, tls=tls, metadata={"authorization": "Bearer secret"}) as queue:
            await queue.insert("t", id="1")
            assert recorder.seen["authorization"] == "Bearer secret"
            assert str(recorder.seen["user-agent"]).startswith(f"ratus-python/{ratus.__version__} ")
            recorder.seen.clear()
            assert await queue.subscribe("t").next()
            assert recorder.seen["authorization"] == "Bearer secret"
