"""Several processes on both ports, looked after by one."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ratus.config import GRACE
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1.promise_service_pb2 import PollRequest
from ratus.v1.server_service_pb2 import GetServerInfoRequest
from ratus.v1.task_pb2 import TASK_STATE_COMPLETED, Task
from tests.app.conftest import Start
from tests.app.test_ends import commit, deliveries, produce
from tests.ports import port_args
from tests.rpc.serving import Client, insert, waiting
from tests.server import Server

SECONDS = 30  # for what must happen
APART = (("grpc.use_local_subchannel_pool", 1),)  # a connection of its own for each channel
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # so that no client reads all certificates first

pytestmark = pytest.mark.parametrize("engine_args", ["workers"], indirect=True)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the servers put temporary files; in the end nothing is left there."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], str]:
    """What the processes have logged."""
    return (tmp_path / "server.log").read_text


def until(condition: Callable[[], object]) -> None:
    """Look until something is so."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def connected(worker: psutil.Process, port: int) -> bool:
    """Whether a client is connected to a port through this worker."""
    return any(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
        for connection in worker.net_connections("tcp")
    )


def counted(server: Server, name: str) -> list[float]:
    """The values of a metric."""
    with urllib.request.urlopen(server.url + "/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return [sample.value for family in families for sample in family.samples if sample.name == name]


@contextlib.contextmanager
def half_a_request(server: Server) -> Iterator[None]:
    """A call that is under way for as long as the server bears with its client."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /topics/t/tasks/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        until(lambda: any(connected(worker, server.port) for worker in workers(server)))
        yield


async def test_all_workers_serve_on_both_ports(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)
    assert server.line.endswith("; 2 workers")
    both = workers(server)
    assert len(both) == 2
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(40):  # that all get to one worker will not happen in a lifetime
            rest = await stack.enter_async_context(
                httpx.AsyncClient(base_url=server.url, verify=NO_TLS, timeout=SECONDS)
            )
            assert (await rest.get("/readyz")).status_code == 200
            client = await stack.enter_async_context(Client(server.target, APART))
            await client.server.GetServerInfo(GetServerInfoRequest())
        for worker in both:
            assert connected(worker, server.port)
            assert connected(worker, server.grpc_port)
        assert not connected(psutil.Process(server.process.pid), server.port)


async def test_a_task_arrives_through_whichever_worker(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.target, APART)) for _ in range(8)]
        stream = clients[0].promises.Poll(PollRequest(topics=["t"], max_in_flight=100))
        for number, client in enumerate(clients):
            await insert(client, Task(id=str(number), topic="t"))
            async with asyncio.timeout(SECONDS):
                answer = await stream.read()
            assert [task.id for task in answer.tasks] == [str(number)]
        stream.cancel()


def test_metrics_are_those_of_all_workers(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)

    def cycle(number: int) -> None:
        with httpx.Client(base_url=server.url, verify=NO_TLS, timeout=SECONDS) as rest:
            assert rest.post(f"/topics/t/tasks/{number}", json={}).status_code == 201
            task = rest.post("/topics/t/promises").json()
            assert rest.patch(f"/topics/t/tasks/{task['_id']}", json={"nonce": task["nonce"]}).status_code == 200

    def check(number: int) -> None:
        for _ in range(10):  # whichever worker is asked
            assert counted(server, "ratus_task_produced_count_total") == [number]
            assert counted(server, "ratus_task_committed_count_total") == [number]
            assert len(counted(server, "ratus_task_schedule_delay_seconds")) == 1
            assert len(counted(server, "ratus_task_execution_duration_seconds")) == 1
            assert len(counted(server, "python_info")) == 1

    for number in range(10):
        cycle(number)
    check(10)
    [worker, _] = before = workers(server)
    worker.kill()  # its counts stay, and its successor goes on with them
    until(lambda: len(set(workers(server)) - set(before)) == 1)
    until(lambda: all(counted(server, "ratus_task_produced_count_total") == [10] for _ in range(10)))
    for number in range(10, 20):
        cycle(number)
    check(20)


async def test_a_worker_that_is_killed_loses_nothing_and_is_replaced(
    start: Start, engine_args: list[str], log: Callable[[], str]
) -> None:
    server = start(*engine_args)
    [killed, other] = workers(server)
    ids = [f"{number:04}" for number in range(600)]
    committed: set[str] = set()
    loaded = asyncio.Event()

    async def consume() -> None:
        async with Client(server.target, APART) as client:
            while True:
                try:
                    async for task in deliveries(server.target, 5):
                        await commit(client, task)
                        committed.add(task.id)
                        if len(committed) >= 200:
                            loaded.set()
                except grpc.aio.AioRpcError as error:
                    assert error.code() == grpc.StatusCode.UNAVAILABLE, error

    consumers = [asyncio.create_task(consume()) for _ in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.target, APART)) for _ in range(6)]
        producers = [asyncio.create_task(produce(client, ids[n::6])) for n, client in enumerate(clients)]
        async with asyncio.timeout(60):
            await loaded.wait()
            killed.kill()
            await asyncio.gather(*producers)
            assert not any(consumer.done() for consumer in consumers)
            for consumer in consumers:
                consumer.cancel()
            await asyncio.wait(consumers)
            # This client does not retry, so it connects only when the killed worker can be reached no more.
            await asyncio.to_thread(killed.wait, SECONDS)
            reader = await stack.enter_async_context(Client(server.target, APART))
            for id in ids:
                task = (await reader.tasks.GetTask(tasks.GetTaskRequest(id=id))).task
                assert task.state == TASK_STATE_COMPLETED or id not in committed
    until(lambda: len(workers(server)) == 2)
    assert other in workers(server)
    assert f"({killed.pid}) was killed by SIGKILL" in log()
    assert await asyncio.to_thread(server.stop) == 0


def test_replacements_that_die_at_once_are_started_ever_more_slowly(
    start: Start, engine_args: list[str], log: Callable[[], str]
) -> None:
    server = start(*engine_args)
    for seconds in ("0.5", "1", "2"):
        until(lambda: len(workers(server)) == 2)
        min(workers(server), key=lambda worker: -worker.create_time()).kill()
        until(lambda seconds=seconds: f"replaced in {seconds} s" in log())  # type: ignore[misc]
        assert httpx.get(server.url + "/readyz", timeout=SECONDS).status_code == 200  # there is another one
    assert server.stop() == 0


def test_a_worker_that_is_told_to_end_does_so_in_order_and_is_replaced(
    start: Start, engine_args: list[str], log: Callable[[], str]
) -> None:
    server = start(*engine_args)
    [worker, other] = workers(server)
    worker.terminate()
    until(lambda: "ended with status 0; it is replaced" in log())
    until(lambda: len(workers(server)) == 2)
    assert other in workers(server)


async def test_workers_drain_when_their_supervisor_is_killed(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)
    orphans = workers(server)
    async with contextlib.AsyncExitStack() as stack:
        streams = []
        for number in range(6):
            client = await stack.enter_async_context(Client(server.target, APART))
            stream = client.promises.Poll(PollRequest(topics=[str(number)]))
            await waiting(client, str(number), 1)
            streams.append(stream)
        server.process.kill()
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert caught.value.details() == "service unavailable: connect elsewhere"
    _, alive = await asyncio.to_thread(psutil.wait_procs, orphans, GRACE)
    assert not alive  # nor has anything been left behind, see the fixture


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_all_at_once(
    start: Start, engine_args: list[str], log: Callable[[], str], number: signal.Signals
) -> None:
    server = start(*engine_args)
    both = workers(server)
    with half_a_request(server):
        server.process.send_signal(number)
        until(lambda: "draining 2 workers" in log())
        assert any(worker.is_running() for worker in both)
        began = time.monotonic()
        assert server.stop(number) == 128 + number
        assert time.monotonic() - began < GRACE / 2
    assert not any(worker.is_running() for worker in both)


def test_a_signal_from_the_keyboard_meets_only_the_supervisor(start: Start, engine_args: list[str]) -> None:
    server = start(*engine_args)
    assert len({os.getpgid(process.pid) for process in (server.process, *workers(server))}) == 3


def test_a_signal_while_workers_start(engine_args: list[str]) -> None:
    slowly = "import time; time.sleep(3); from ratus.worker import main; main()"
    program = f"import sys; from ratus import cli, supervisor; supervisor._COMMAND = (sys.executable, '-c', {slowly!r})"
    command = [sys.executable, "-c", f"{program}; cli.main()", "serve", *port_args(), *engine_args]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        supervisor = psutil.Process(process.pid)
        until(lambda: len(supervisor.children()) == 2)
        began = supervisor.children()
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert not any(worker.is_running() for worker in began)


def test_a_signal_while_a_replacement_starts(start: Start, engine_args: list[str], log: Callable[[], str]) -> None:
    server = start(*engine_args)
    killed = workers(server)[0]
    killed.kill()
    until(lambda: len(workers(server)) == 2 and killed not in workers(server))
    assert server.stop() == 0
    assert "Traceback" not in log()
