"""A call that is refused has changed nothing at all: all that is in the queue is compared before and after."""

import asyncio
import http.client
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from ratus.v1 import promise_service_pb2, task_service_pb2, topic_service_pb2
from tests.fuzz.messages import message, spoilt
from tests.fuzz.test_rpc import METHODS
from tests.fuzz.watching import REQUESTS, SEED, watched

CALLS = REQUESTS // 10
TASKS = "/ratus.v1.TaskService/"

# Bodies that are refused wherever they are read, each with something in it that would be done.
BODIES = [
    *(b"[]", b'"x"', b"{", b'{"timeout":"1s"} x', b'{"a":"\xff"}', b'{"timeout":"soon"}', b'{"deadline":"never"}'),
    *(
        b'{"data":[{"_id":"active"},{"_id":"pending","state":4}]}',
        b'{"data":[{"_id":"new"},{"_id":"x","payload":1e400}]}',
    ),
    *(b'{"data":[{"_id":"pending"},{"_id":""}]}', b'{"data":[{"_id":"new"},{"_id":"y","defer":"1x"}]}'),
    *(b'{"state":9}', b'{"payload":[}', b'{"payload":{"a\\u0000":1}}', b'{"nonce":"not this"}', b'{"scheduled":"x"}'),
    *(
        b'{"_id":"other"}',
        b'{"consumer":1}',
        b'{"limit":"x"}',
        b'{"topic":"a\\u0000"}',
        b'{"producer":"%b"}' % (b"p" * 1025),
    ),
]
QUERIES = [
    "?timeout=x",
    "?deadline=x",
    "?consumer=%00",
    "?consumer=%ff",
    "?limit=x",
    "?limit=1001",
    "?wait=1h",
    "?nonce=%00",
]
IDS = ["pending", "active", "completed", "archived", "new", "a%00", "%ff", "%zz", "x" * 1025]
PATHS = [*(f"/v1/topics/t/tasks/{id}" for id in IDS), *(f"/v1/topics/t/promises/{id}" for id in IDS)]
PATHS += [*(f"/v1/topics/t/promises/{id}/extend" for id in IDS), "/v1/topics/t/tasks", "/v1/topics/t/promises"]
PATHS += [
    "/v1/topics//tasks",
    "/v1/topics/a%00/promises",
    "/v1/topics/t/nothing",
    "/v2/topics",
    "/v1/topics/t/tasks/pending/",
]


class Queue:
    """All that is in it, and calls on both faces."""

    def __init__(self, port: int, channel: grpc.aio.Channel) -> None:
        self._port = port
        self._channel = channel

    async def rpc(self, path: str, request: Any) -> bytes:
        """The answer to a call."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        answer: bytes = await self._channel.unary_unary(path)(data, timeout=60)
        return answer

    def rest(self, method: str, path: str, body: bytes) -> int:
        """The status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body or None)
            return connection.getresponse().status
        finally:
            connection.close()

    async def fill(self) -> None:
        """Tasks in every state, and promises: by name, with a request ID, and one that has been extended."""
        tasks = [{"_id": name, "state": state, "payload": name} for state, name in enumerate(IDS[:4])]
        tasks += [{"_id": f"due {n}"} for n in range(5)] + [{"_id": "later", "defer": "1h"}]
        assert self.rest("POST", "/v1/topics/t/tasks", json.dumps({"data": tasks}).encode()) == 201
        assert self.rest("POST", "/v1/topics/t/promises?request_id=r&limit=2&timeout=1h", b"") == 200

    async def everything(self) -> list[bytes]:
        """All tasks, with their nonces and times, all promises, all topics and how one is doing."""
        return [
            await self.rpc(f"{TASKS}ListTasks", task_service_pb2.ListTasksRequest(page_size=100)),
            await self.rpc(
                "/ratus.v1.PromiseService/ListPromises", promise_service_pb2.ListPromisesRequest(page_size=100)
            ),
            await self.rpc("/ratus.v1.TopicService/ListTopics", topic_service_pb2.ListTopicsRequest(page_size=100)),
            await self.rpc("/ratus.v1.TopicService/GetTopicStats", topic_service_pb2.GetTopicStatsRequest(topic="t")),
        ]


def rest_calls(dice: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """Calls, most of which are to be refused."""
    while True:
        path = dice.choice(PATHS)
        body = dice.choice(BODIES)
        yield (
            dice.choice(["POST", "PUT", "PATCH", "PATCH", "TRACE"]),
            path + dice.choice(["", dice.choice(QUERIES)]),
            body,
        )


def rpc_calls(dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """The same for gRPC: random messages, the half of them spoilt."""
    unary = [method for method in METHODS if not method.server_streaming and not method.name.startswith("Delete")]
    while True:
        method = dice.choice(unary)
        data = message(GetMessageClass(method.input_type), dice).SerializeToString()
        yield (
            f"/{method.containing_service.full_name}/{method.name}",
            spoilt(data, dice) if dice.random() < 0.5 else data,
        )


async def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    refused = {"REST": 0, "gRPC": 0}
    with watched(tmp_path, "--chore-interval", "0", path="/readyz") as server:
        async with grpc.aio.insecure_channel(server.server.target) as channel:
            queue = Queue(server.server.port, channel)
            await queue.fill()
            before = await queue.everything()
            for (method, path, body), (rpc, data) in zip(rest_calls(dice), rpc_calls(dice), strict=False):
                status = await asyncio.to_thread(queue.rest, method, path, body)
                after = await queue.everything()
                assert status < 400 or after == before, (method, path, body, status)
                refused["REST"] += status >= 400
                before = after
                try:
                    await queue.rpc(rpc, data)
                    accepted = True
                except grpc.aio.AioRpcError:
                    accepted = False
                after = await queue.everything()
                assert accepted or after == before, (rpc, data)
                refused["gRPC"] += not accepted
                before = after
                if min(refused.values()) >= CALLS:
                    break
    print(f"refused: {refused}")
