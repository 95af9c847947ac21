"""Random and spoilt messages on every method of the gRPC face: each gets an answer that the contract has."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from ratus.v1 import promise_service_pb2, server_service_pb2, task_service_pb2, topic_service_pb2
from tests.fuzz.messages import message, spoilt
from tests.fuzz.watching import REQUESTS, SEED, watched

FILES = (promise_service_pb2, server_service_pb2, task_service_pb2, topic_service_pb2)
METHODS: list[MethodDescriptor] = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]
TOGETHER = 20
OF_THE_CLIENT = "Internal error from Core"  # it was sending when the server had ended the call
STREAM_SECONDS = 0.3  # after which a client cancels a stream that was opened, or a claim that waits
UNEXPECTED = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS}


def request(method: MethodDescriptor, dice: random.Random) -> bytes:
    """A request for a method, as bytes; the task and the topic of the canary are spared."""
    made = message(GetMessageClass(method.input_type), dice)
    if method.name == "DeleteTopics":
        return b"\x07"  # malformed: a good one would delete everything
    data = made.SerializeToString()
    if dice.random() < 0.4:
        data = spoilt(data, dice)
    return b"" if b"canary" in data.replace(b"canary ", b"") else data


async def call(channel: grpc.aio.Channel, method: MethodDescriptor, sent: list[bytes]) -> grpc.StatusCode:
    """What a call ends with."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        match method.client_streaming, method.server_streaming:
            case False, False:
                await channel.unary_unary(path)(sent[0], timeout=STREAM_SECONDS)
            case False, True:
                async for _ in channel.unary_stream(path)(sent[0], timeout=STREAM_SECONDS):
                    pass
            case True, True:
                async for _ in channel.stream_stream(path)(each(sent), timeout=STREAM_SECONDS):
                    pass
    except grpc.aio.AioRpcError as error:
        if (error.details() or "").startswith(OF_THE_CLIENT):
            return grpc.StatusCode.CANCELLED
        return error.code()
    return grpc.StatusCode.OK


async def each(sent: list[bytes]) -> AsyncIterator[bytes]:
    for data in sent:
        yield data


async def test_odd_messages_get_ordinary_answers(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    seen: Counter[tuple[str, grpc.StatusCode]] = Counter()
    calls = sent = 0
    with watched(tmp_path) as server:
        async with grpc.aio.insecure_channel(server.server.target) as channel:
            while sent < REQUESTS:
                methods = dice.choices(METHODS, k=TOGETHER)
                requests = [
                    [request(method, dice) for _ in range(dice.randint(1, 5) if method.client_streaming else 1)]
                    for method in methods
                ]
                codes = await asyncio.gather(*(call(channel, *pair) for pair in zip(methods, requests, strict=True)))
                for method, data, code in zip(methods, requests, codes, strict=True):
                    assert code not in UNEXPECTED, (method.full_name, code, data)
                    seen[method.name, code] += 1
                calls += len(methods)
                sent += sum(map(len, requests))
    codes_seen: Counter[str] = Counter()
    for (_, code), count in seen.items():
        codes_seen[code.name] += count
    print(f"gRPC: {sent} messages in {calls} calls, answers {dict(sorted(codes_seen.items()))}")
    assert {name for name, _ in seen} == {method.name for method in METHODS}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= codes_seen.keys()
