"""gRPC as other clients may speak it: frame by frame, by a library of HTTP/2 that knows nothing of gRPC."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ratus.config import MAX_REQUEST_BYTES
from ratus.http2.frames import Code
from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1.task_pb2 import Task
from tests.http2 import client as http2
from tests.http2.client import Client
from tests.rpc.serving import Running, insert, waiting

Headers = list[tuple[bytes, bytes]]

GET, INSERT, CLAIM, POLL, WORK = (
    b"/ratus.v1.TaskService/GetTask",
    b"/ratus.v1.TaskService/InsertTask",
    b"/ratus.v1.PromiseService/ClaimTasks",
    b"/ratus.v1.PromiseService/Poll",
    b"/ratus.v1.PromiseService/Work",
)
NOTHING = tasks.GetTaskRequest(id="nothing").SerializeToString()
START = promises.WorkRequest(sequence=1, start=promises.PollRequest(topics=["t"])).SerializeToString()
FOREVER = promises.ClaimTasksRequest(topic="t")
FOREVER.wait.FromSeconds(60)
OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = (
    b"%d" % code for code in (0, 3, 4, 5, 8, 12, 13)
)


@pytest.fixture
async def raw(running: Running) -> AsyncIterator[Client]:
    async with http2.client(running.port) as client:
        yield client


def head(path: bytes, **more: bytes) -> Headers:
    """The head of a call; fields that are given replace those that are usual."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"x", b"te": b"trailers"}
    fields[b"content-type"] = b"application/grpc"
    return list((fields | {name.replace("_", "-").encode(): value for name, value in more.items()}).items())


def framed(message: bytes, compressed: int = 0) -> bytes:
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


def messages(data: bytes) -> list[bytes]:
    """The messages in the data of a stream."""
    found = []
    while data:
        end = 5 + int.from_bytes(data[1:5], "big")
        found.append(data[5:end])
        data = data[end:]
    return found


async def ask(raw: Client, headers: Headers, data: bytes = b"") -> dict[bytes, bytes]:
    """The last head of the answer to a whole request."""
    number = raw.open(headers, end=not data)
    if data:
        raw.send(number, data, end=True)
    await raw.end_of(number)
    return raw.heads[number][-1]


async def test_an_answer_is_a_head_a_message_and_a_status(raw: Client, client: Any) -> None:
    await insert(client, Task(id="a", topic="t"))
    number = raw.open(head(GET))
    raw.send(number, framed(tasks.GetTaskRequest(id="a").SerializeToString()), end=True)
    await raw.end_of(number)
    assert raw.heads[number] == [
        {b":status": b"200", b"content-type": b"application/grpc"},
        {b"grpc-status": OK},
    ]
    [message] = messages(raw.data[number])
    assert tasks.GetTaskResponse.FromString(message).task.id == "a"
    assert number not in raw.resets


async def test_an_error_is_one_head(raw: Client) -> None:
    number = raw.open(head(GET))
    raw.send(number, framed(NOTHING), end=True)
    await raw.end_of(number)
    [only] = raw.heads[number]
    assert (only[b":status"], only[b"content-type"], only[b"grpc-status"]) == (b"200", b"application/grpc", NOT_FOUND)
    assert only[b"grpc-message"].startswith(b"not found")
    assert only[b"grpc-status-details-bin"]


async def test_messages_of_statuses_are_escaped(raw: Client) -> None:
    answer = await ask(raw, head(b"/a%b\x7f\xc3\xa9"))
    assert answer[b"grpc-message"] == b"unknown method /a%25b%7F%EF%BF%BD%EF%BF%BD"


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"OPTIONS"])
async def test_only_posts_are_calls(raw: Client, method: bytes) -> None:
    headers = [(name, method if name == b":method" else value) for name, value in head(GET)]
    assert await ask(raw, headers) == {b":status": b"405", b"allow": b"POST"}


@pytest.mark.parametrize("type", [b"application/json", b"application/grpc-web", b"application/grpcx", b""])
async def test_what_is_not_grpc_is_refused_as_http(raw: Client, type: bytes) -> None:
    assert await ask(raw, head(GET, content_type=type), framed(NOTHING)) == {b":status": b"415"}


@pytest.mark.parametrize("type", [b"application/grpc+proto", b"application/grpc;charset=utf-8"])
async def test_types_of_grpc_may_say_more(raw: Client, type: bytes) -> None:
    assert (await ask(raw, head(GET, content_type=type), framed(NOTHING)))[b"grpc-status"] == NOT_FOUND


async def test_an_encoding_that_is_unknown_is_answered_with_those_that_are(raw: Client) -> None:
    answer = await ask(raw, head(GET, grpc_encoding=b"br"), framed(NOTHING))
    assert answer[b"grpc-status"] == UNIMPLEMENTED
    assert answer[b"grpc-accept-encoding"] == b"identity,gzip,deflate"


MALFORMED = {
    "a field of HTTP/1": [(b"connection", b"close")],
    "te": [(b"te", b"gzip")],
    "a capital": [(b"X-a", b"b")],
    "a space in a name": [(b"x a", b"b")],
    "a line break": [(b"x-a", b"b\r\nc: d")],
    "NUL": [(b"x-a", b"\0")],
    "a pseudo-header behind others": [(b":path", GET)],
    "one that is not for requests": [(b":status", b"200")],
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_heads_end_their_stream(running: Running, name: str) -> None:
    async with http2.client(running.port) as raw:
        config = raw.h2.config
        config.validate_outbound_headers = config.normalize_outbound_headers = False
        number = raw.open(head(GET) + MALFORMED[name])
        await raw.end_of(number)
        assert raw.resets == {number: Code.PROTOCOL_ERROR}
        assert (await ask(raw, head(GET), framed(NOTHING)))[b"grpc-status"] == NOT_FOUND


@pytest.mark.parametrize("missing", [b":method", b":scheme", b":path"])
async def test_heads_that_lack_something_end_their_stream(running: Running, missing: bytes) -> None:
    async with http2.client(running.port) as raw:
        raw.h2.config.validate_outbound_headers = False
        number = raw.open([field for field in head(GET) if field[0] != missing])
        await raw.end_of(number)
        assert raw.resets == {number: Code.PROTOCOL_ERROR}


async def test_a_message_may_come_byte_by_byte(raw: Client) -> None:
    number = raw.open(head(GET))
    for byte in framed(NOTHING):
        raw.send(number, bytes([byte]))
        raw.send(number, b"")
    raw.send(number, b"", end=True)
    await raw.end_of(number)
    assert raw.heads[number][-1][b"grpc-status"] == NOT_FOUND


async def test_many_messages_may_come_in_one_frame_and_be_cut_anywhere(raw: Client) -> None:
    window = promises.WorkRequest(sequence=7)
    window.window.max_in_flight = 3
    said = framed(START) + framed(window.SerializeToString()) * 20
    for cut in (0, 1, 4, 5, 6, len(framed(START)) + 3):
        number = raw.open(head(WORK))
        raw.send(number, said[:cut])
        raw.send(number, said[cut:], end=True)
        await raw.end_of(number)
        assert raw.heads[number][-1] == {b"grpc-status": OK}
        answers = [promises.WorkResponse.FromString(message).results for message in messages(raw.data[number])]
        assert [answer.sequence for answer in answers] == [1] + [7] * 20
        assert not any(answer.status.code for answer in answers)


async def test_a_message_without_bytes_is_a_message(raw: Client) -> None:
    assert (await ask(raw, head(INSERT), framed(b"")))[b"grpc-status"] == INVALID_ARGUMENT
    number = raw.open(head(WORK))
    raw.send(number, framed(b""))
    await raw.end_of(number)
    assert raw.heads[number][-1][b"grpc-status"] == INVALID_ARGUMENT


@pytest.mark.parametrize("said", [b"\0", framed(NOTHING)[:-1], framed(START)[:5]])
@pytest.mark.parametrize("path", [GET, WORK])
async def test_a_message_that_is_cut_off_is_a_fault_of_the_client(raw: Client, path: bytes, said: bytes) -> None:
    assert (await ask(raw, head(path), said))[b"grpc-status"] == INTERNAL


@pytest.mark.parametrize("path", [GET, POLL])
async def test_one_message_is_one(raw: Client, path: bytes) -> None:
    answer = await ask(raw, head(path))
    assert (answer[b"grpc-status"], answer[b"grpc-message"]) == (UNIMPLEMENTED, b"a message is missing")
    answer = await ask(raw, head(path), framed(b"") * 2)
    assert (answer[b"grpc-status"], answer[b"grpc-message"]) == (UNIMPLEMENTED, b"more than one message")


async def test_a_stream_may_end_before_it_begins(raw: Client) -> None:
    assert await ask(raw, head(WORK)) == {b"grpc-status": OK}


async def test_a_client_need_not_end_its_side(raw: Client) -> None:
    number = raw.open(head(GET))
    raw.send(number, framed(NOTHING))
    await raw.until(lambda: number in raw.resets)
    assert number in raw.ended
    assert raw.heads[number][-1][b"grpc-status"] == NOT_FOUND
    assert raw.resets == {number: Code.NO_ERROR}


async def test_trailers_of_a_client_end_its_side(raw: Client) -> None:
    number = raw.open(head(WORK))
    raw.send(number, framed(START))
    raw.h2.send_headers(number, [(b"x-checksum", b"1")], end_stream=True)
    raw.flush()
    await raw.end_of(number)
    assert raw.heads[number][-1] == {b"grpc-status": OK}


PACKED = {b"gzip": gzip.compress, b"deflate": zlib.compress}


@pytest.mark.parametrize("encoding", PACKED)
async def test_compressed_messages(raw: Client, encoding: bytes) -> None:
    pack = PACKED[encoding]
    answer = await ask(raw, head(GET, grpc_encoding=encoding), framed(pack(NOTHING), 1))
    assert answer[b"grpc-status"] == NOT_FOUND
    answer = await ask(raw, head(GET, grpc_encoding=encoding), framed(NOTHING))
    assert answer[b"grpc-status"] == NOT_FOUND  # each message says whether it is
    answer = await ask(raw, head(WORK, grpc_encoding=encoding), framed(pack(START), 1))
    assert answer == {b"grpc-status": OK}


@pytest.mark.parametrize("path", [GET, WORK])
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        (b"identity", framed(gzip.compress(START), 1)),
        (b"gzip", framed(gzip.compress(START), 2)),
        (b"gzip", framed(START, 1)),
        (b"gzip", framed(gzip.compress(START)[:-1], 1)),
        (b"gzip", framed(b"", 1)),
        (b"deflate", framed(gzip.compress(START), 1)),
    ],
)
async def test_messages_that_cannot_be_decompressed(raw: Client, path: bytes, encoding: bytes, said: bytes) -> None:
    answer = await ask(raw, head(path, grpc_encoding=encoding), said)
    assert answer[b"grpc-status"] == INTERNAL
    assert b"compressed" in answer[b"grpc-message"]


@pytest.mark.parametrize("path", [GET, WORK])
async def test_messages_that_unpack_to_too_much(raw: Client, path: bytes) -> None:
    bomb = framed(gzip.compress(bytes(MAX_REQUEST_BYTES + 1)), 1)
    assert (await ask(raw, head(path, grpc_encoding=b"gzip"), bomb))[b"grpc-status"] == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("path", [GET, WORK])
async def test_a_message_is_too_large_as_soon_as_it_says_so(raw: Client, path: bytes) -> None:
    number = raw.open(head(path))
    raw.send(number, b"\0" + (MAX_REQUEST_BYTES + 1).to_bytes(4, "big"))
    await raw.end_of(number)
    assert raw.heads[number][-1][b"grpc-status"] == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("timeout", [b"", b"1", b"S", b"1s", b"-1S", b"123456789S", b"1.5S", b"1 S"])
async def test_malformed_timeouts(raw: Client, timeout: bytes) -> None:
    answer = await ask(raw, head(GET, grpc_timeout=timeout), framed(NOTHING))
    assert (answer[b"grpc-status"], answer[b"grpc-message"]) == (INTERNAL, b"malformed grpc-timeout")


@pytest.mark.parametrize("timeout", [b"99999999H", b"60000000u", b"1M"])
async def test_timeouts_that_are_long_enough(raw: Client, timeout: bytes) -> None:
    assert (await ask(raw, head(GET, grpc_timeout=timeout), framed(NOTHING)))[b"grpc-status"] == NOT_FOUND


@pytest.mark.parametrize("timeout", [b"0n", b"100m"])
@pytest.mark.parametrize("ended", [True, False])
async def test_deadlines(raw: Client, client: Any, timeout: bytes, ended: bool) -> None:
    number = raw.open(head(CLAIM, grpc_timeout=timeout))
    raw.send(number, framed(FOREVER.SerializeToString()), end=ended)
    await raw.end_of(number)
    assert raw.heads[number][-1][b"grpc-status"] == DEADLINE_EXCEEDED
    await waiting(client, "t", 0)


async def test_a_deadline_also_ends_calls_that_say_nothing(raw: Client) -> None:
    for path in (GET, WORK):
        number = raw.open(head(path, grpc_timeout=b"50m"))
        await raw.end_of(number)
        assert raw.heads[number][-1][b"grpc-status"] == DEADLINE_EXCEEDED


async def test_a_deadline_ends_an_answer_that_is_not_read(running: Running, client: Any) -> None:
    await insert(client, Task(id="a", topic="t", payload=b'"%s"' % (b"x" * 500_000)))
    poll = promises.PollRequest(topics=["t"]).SerializeToString()
    async with http2.client(running.port, stingy=True) as raw:
        number = raw.open(head(POLL, grpc_timeout=b"5S"))
        raw.send(number, framed(poll), end=True)
        await raw.end_of(number)
        assert 0 < len(raw.data[number]) <= 65_535
        assert raw.resets == {number: Code.CANCEL}
    await waiting(client, "t", 0)


@pytest.mark.parametrize("how", ["reset", "connection"])
@pytest.mark.parametrize("path", [CLAIM, POLL, WORK])
async def test_who_goes_away_does_not_wait_any_longer(running: Running, client: Any, path: bytes, how: str) -> None:
    said = {CLAIM: FOREVER.SerializeToString(), POLL: promises.PollRequest(topics=["t"]).SerializeToString()}
    async with http2.client(running.port) as raw:
        number = raw.open(head(path))
        raw.send(number, framed(said.get(path, START)))
        await waiting(client, "t", 1)
        if how == "reset":
            raw.h2.reset_stream(number, Code.CANCEL)
            raw.flush()
        else:
            raw.writer.transport.abort()
        await waiting(client, "t", 0)


async def test_calls_that_are_refused_leave_the_connection_to_others(raw: Client) -> None:
    refused = [raw.open(head(b"/nope")) for _ in range(20)]
    for number in refused:
        if number not in raw.ended:
            raw.send(number, b"x" * 10)
    answers = await asyncio.gather(*(ask(raw, head(GET), framed(NOTHING)) for _ in range(20)))
    assert {answer[b"grpc-status"] for answer in answers} == {NOT_FOUND}
    await raw.end_of(*refused)
    assert {raw.heads[number][-1][b"grpc-status"] for number in refused} == {UNIMPLEMENTED}
