"""Streams and waits of real processes, when somebody is told to end or is killed."""

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from ratus.v1.topic_service_pb2 import GetTopicStatsRequest
from ratus.v1.topic_service_pb2_grpc import TopicServiceStub
from tests.gateway.listening import Listener
from tests.server import Server

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers on one file, which end with the test."""
    with ExitStack() as stack:

        def start_one(command: str = "serve", *args: str) -> Server:
            if command == "serve":
                args = ("--sqlite-path", str(tmp_path / "q.db"), *args)
            return stack.enter_context(Server(tmp_path / "server.log", *args, command=command))

        yield start_one


def insert(server: Server, *payloads: object) -> None:
    data = [{"_id": f"{number:04}", "payload": payload} for number, payload in enumerate(payloads)]
    answer = httpx.post(f"{server.url}/topics/t/tasks", json={"data": data}, timeout=30)
    assert answer.json() == {"created": len(payloads), "updated": 0}


def commit(server: Server, task: Any) -> int:
    body = {"nonce": task["nonce"]}
    return httpx.patch(f"{server.url}/topics/t/tasks/{task['_id']}", json=body, timeout=30).status_code


def until(server: Server, topic: str, **wanted: int) -> Any:
    """Look, a round trip each, until a topic is doing as wanted."""
    end = time.monotonic() + 60
    with grpc.insecure_channel(server.target) as channel:
        while True:
            stats = TopicServiceStub(channel).GetTopicStats(GetTopicStatsRequest(topic=topic), wait_for_ready=True)
            if all(getattr(stats, name) == value for name, value in wanted.items()):
                return stats
            assert time.monotonic() < end, stats


@pytest.mark.parametrize("through", ["serve", "gateway"])
def test_a_signal_ends_streams_and_waits_at_once(start: Start, tmp_path: Path, through: str) -> None:
    server = start()
    front = server if through == "serve" else start("gateway", "--target", server.target)
    insert(server, *range(10))
    # For the server a gateway that ends is a client that is lost.
    query = "?release_on_close=true" if through == "serve" else ""
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(front, f"/v1/topics/t/stream{query}")) for _ in range(20)]
        until(server, "t", active=10, waiting_consumers=10)
        waits = [
            stack.enter_context(Listener(front, f"/topics/u/promises?wait=10m{more}", method="POST"))
            for more in ("", "&limit=10")
        ]
        until(server, "u", waiting_consumers=2)
        answer = httpx.post(f"{server.url}/topics/u/promises", timeout=60)
        assert answer.status_code == 404  # by now they have looked, and wait
        assert front.stop() == 0
        lines = [(listener.task(), listener) for listener in listeners]
        held = [task for task, _ in lines if "_id" in task]
        assert len(held) == 10
        for line, listener in lines:
            error = line if "error" in line else listener.task()
            assert error["error"]["code"] == 503
            assert error["error"]["message"] == "service unavailable: connect elsewhere"
            assert listener.line() == b""
        for wait in waits:
            assert wait.answer.status == 503
            assert json.loads(wait.answer.read())["error"]["code"] == 503
    if through == "serve":
        server = start()
    assert {commit(server, task) for task in held} == {200}  # their holders can do that elsewhere
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_a_signal_while_a_client_does_not_read(start: Start, tmp_path: Path) -> None:
    server = start()
    insert(server, *["x" * 500_000] * 60)
    with Listener(server, "/v1/topics/t/stream?max_in_flight=100", buffer=4096) as listener:
        assert listener.line()
        assert server.stop() == 0
        arrived = 1 + listener.rest()
    server = start()
    stats = until(server, "t")
    # What the kernel has taken, which varies, arrives; a task or two may be cut off, and the rest was given back.
    assert arrived <= stats.active <= arrived + 2
    assert stats.pending == 60 - stats.active


@pytest.mark.parametrize("through", ["serve", "gateway"])
def test_a_client_that_is_killed(start: Start, through: str) -> None:
    server = start()
    front = server if through == "serve" else start("gateway", "--target", server.target)
    insert(server, *range(3))
    url = f"{front.url}/topics/t/stream?max_in_flight=2&release_on_close=true"
    with subprocess.Popen(["curl", "-sN", url], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        assert curl.stdout.readline() == b"event: task\n"
        until(server, "t", active=2, pending=1)
        curl.kill()
    until(server, "t", active=0, pending=3)


def test_a_server_that_is_killed(start: Start) -> None:
    server = start()
    insert(server, 1, 2)
    with Listener(server, "/topics/t/stream?release_on_close=true") as listener:
        task = listener.task()
        server.kill()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):  # a stream without an end
            listener.answer.read()
    server = start()
    assert commit(server, task) == 200  # the promise outlives the server
    with Listener(server, "/topics/t/stream") as listener:
        assert listener.task()["payload"] == 2
