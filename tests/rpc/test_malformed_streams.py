"""Messages on a Work stream that are none."""

import grpc
import pytest

from ratus.v1 import promise_service_pb2 as pb
from tests.rpc.serving import Client, waiting

START = pb.WorkRequest(sequence=1, start=pb.PollRequest(topics=["t"]))
MALFORMED = b"\x0b"


def work(client: Client) -> grpc.aio.StreamStreamCall:
    """A stream on which bytes are sent as they are."""
    return client.channel.stream_stream("/ratus.v1.PromiseService/Work")()


@pytest.mark.parametrize("before", [[], [START.SerializeToString()]])
async def test_a_malformed_message_is_a_bad_request(client: Client, before: list[bytes]) -> None:
    stream = work(client)
    for message in before:
        await stream.write(message)
        assert await stream.read() is not grpc.aio.EOF
    await stream.write(MALFORMED)
    assert await stream.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "malformed message" in await stream.details()
    await waiting(client, "t", 0)
