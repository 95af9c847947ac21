"""How several processes start, and how they say that they cannot."""

import socket
import subprocess
import sys
from datetime import timedelta

import psutil
import pytest

from ratus import supervisor
from ratus.config import ChoreSettings, Limits, Listen, LogSettings, MongoDBSettings, ServeSettings
from ratus.errors import StartError
from ratus.orders import Order
from ratus.ports import held
from tests.app.conftest import Start
from tests.app.test_start import one_line
from tests.ports import free_port, port_args
from tests.server import run

NOWHERE = ("--engine", "mongodb", "--mongodb-uri", "mongodb://127.0.0.1:1/", "--workers", "2")


@pytest.mark.parametrize(
    ("engine", "why"), [("sqlite", "has one writer"), ("memory", "out of reach"), ("memdb", "out of reach")]
)
def test_engines_of_one_process(engine: str, why: str) -> None:
    line = one_line("serve", *port_args(), "--engine", engine, "--workers", "2")
    assert line.startswith("ratus: --workers 2 needs --engine mongodb: ")
    assert why in line


def test_the_number_of_workers() -> None:
    assert "--workers" in one_line("serve", "--workers", "0", status=2)
    result = run("serve", *port_args(), "--engine", "memory", env={"WORKERS": "3"})
    assert result.returncode == 1
    assert result.stderr.startswith("ratus: --workers 3 needs")
    assert "WORKERS" in run("serve", "--help").stdout


@pytest.mark.parametrize("name", ["port", "grpc_port"])
def test_a_port_that_somebody_listens_on(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert str(number) in one_line("serve", *NOWHERE, *port_args(**{name: number}))


@pytest.mark.parametrize("name", ["port", "grpc_port"])
@pytest.mark.parametrize("others", [NOWHERE, ("--engine", "memory")])
def test_a_port_of_other_workers(start: Start, name: str, others: tuple[str, ...]) -> None:
    server = start(*NOWHERE)
    number = {"port": server.port, "grpc_port": server.grpc_port}[name]
    assert str(number) in one_line("serve", *others, *port_args(**{name: number}))


def test_a_port_that_is_held_for_workers_that_do_not_listen_yet() -> None:
    listen = Listen(port=free_port())
    with held("REST", listen):
        with pytest.raises(StartError, match=rf"cannot serve gRPC on 127.0.0.1:{listen.port}"), held("gRPC", listen):
            pass
        with pytest.raises(OSError, match="in use"):
            socket.create_server((listen.host, listen.port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((listen.host, listen.port))
        with socket.create_server((listen.host, listen.port), reuse_port=True):
            socket.create_connection((listen.host, listen.port)).close()
    socket.create_server((listen.host, listen.port)).close()


def test_ports_that_other_servers_have_just_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = Listen(port=server.getsockname()[1])
        with socket.create_connection((listen.host, listen.port)) as client:
            server.accept()[0].close()  # so that the connection lingers here
            assert client.recv(1) == b""
    with held("REST", listen), socket.create_server((listen.host, listen.port), reuse_port=True):
        pass


@pytest.mark.parametrize(
    "args",
    [
        ["--mongodb-uri", "nonsense"],  # only a worker sees it
        ["--port", "0", "--grpc-port", "0"],
        ["--bind", "203.0.113.1"],
    ],
)
def test_a_start_that_cannot_work(args: list[str]) -> None:
    one_line("serve", *NOWHERE, *port_args(), *args)


def test_a_face_can_be_turned_off(start: Start) -> None:
    server = start(*NOWHERE, "--grpc-port", "0")
    assert "gRPC" not in server.line
    assert server.line.endswith("; 2 workers")


def test_an_order_arrives_as_it_was_given() -> None:
    settings = ServeSettings(
        rest=Listen("::1", 1, shared=True),
        workers=3,
        engine="mongodb",
        mongodb=MongoDBSettings(uri="mongodb://user:päss@x/", retention=timedelta(milliseconds=1500)),
        chores=ChoreSettings(timedelta(seconds=1.5), timedelta(days=2), initial_random=True),
        limits=Limits(payload_bytes=5),
    )
    order = Order(2, settings, LogSettings("debug", "json", process=True), "/tmp/x")  # noqa: S108
    assert Order.parse(order.line()) == order


def test_the_background_jobs_of_workers_take_turns() -> None:
    settings = ServeSettings(workers=4, chores=ChoreSettings(timedelta(seconds=10), timedelta(seconds=1)))
    delays = [supervisor.worker_settings(settings, number).chores.initial_delay for number in range(4)]
    assert delays == [timedelta(seconds=seconds) for seconds in (1, 3.5, 6, 8.5)]


def test_a_worker_that_does_not_end_is_killed() -> None:
    impatient = "from ratus import cli, supervisor; supervisor._PATIENCE = 0.5; cli.main()"
    command = [sys.executable, "-c", impatient, "serve", *NOWHERE, *port_args()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("; 2 workers\n")
        [frozen, other] = psutil.Process(process.pid).children()
        frozen.suspend()
        process.terminate()
        assert process.wait(30) == 1
        assert not frozen.is_running()
        assert not other.is_running()
