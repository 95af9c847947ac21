"""The mapping of errors: the contract's table one way, the same error back the other way."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from ratus import errors
from ratus.errors import (
    BadRequest,
    ClientClosed,
    Conflict,
    Draining,
    Internal,
    NonceMismatch,
    NotFound,
    RatusError,
    StorageUnavailable,
    TaskExists,
    TaskNotPending,
    TooLarge,
    TooMany,
    Unavailable,
    Unsupported,
)
from ratus.rpc.call import status_block
from ratus.rpc.errors import DETAILS_KEY, LOST_WHILE_WRITING, code_of, foreign, from_rpc_error, from_status, to_status

TABLE = [
    (BadRequest("must not be empty", field="tasks[3].id"), "INVALID_ARGUMENT", "BAD_REQUEST"),
    (BadRequest("invalid state 7", field="state", bare=True), "INVALID_ARGUMENT", "BAD_REQUEST"),
    (BadRequest("malformed message"), "INVALID_ARGUMENT", "BAD_REQUEST"),
    (NotFound(), "NOT_FOUND", "NOT_FOUND"),
    (NotFound("no such thing"), "NOT_FOUND", "NOT_FOUND"),
    (TaskExists(), "ALREADY_EXISTS", "TASK_EXISTS"),
    (TaskNotPending(), "FAILED_PRECONDITION", "TASK_NOT_PENDING"),
    (NonceMismatch(), "ABORTED", "NONCE_MISMATCH"),
    (TooLarge("payload of 9 bytes: too much"), "RESOURCE_EXHAUSTED", "TOO_LARGE"),
    (TooMany("streams"), "RESOURCE_EXHAUSTED", "TOO_MANY"),
    (ClientClosed(), "CANCELLED", None),
    (Unsupported("use mongodump"), "FAILED_PRECONDITION", "UNSUPPORTED"),
    (StorageUnavailable("down"), "UNAVAILABLE", "STORAGE_UNAVAILABLE"),
    (Draining(), "UNAVAILABLE", "DRAINING"),
    (Internal(), "INTERNAL", "INTERNAL"),
]


@pytest.mark.parametrize(("error", "code", "reason"), TABLE, ids=lambda value: str(value)[:30])
def test_the_table_both_ways(error: RatusError, code: str, reason: str | None) -> None:
    status = to_status(error)
    assert code_of(error).name == code
    assert status.code == code_of(error).value[0]
    assert status.message == str(error)
    info = error_details_pb2.ErrorInfo()
    if reason is None:
        assert not status.details
    else:
        assert status.details[0].Unpack(info)
        assert (info.domain, info.reason) == ("ratus", reason)

    back = from_status(status)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.detail == error.detail
    if isinstance(error, BadRequest):
        assert isinstance(back, BadRequest)
        assert (back.field, back.description, back.within("tasks[0]").field) == (
            error.field,
            error.description,
            error.within("tasks[0]").field,
        )


def test_every_error_that_is_raised_has_its_line() -> None:
    leaves = [
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, RatusError) and cls not in (RatusError, Conflict, Unavailable)
    ]
    assert {type(error) for error, _, _ in TABLE} == set(leaves)


def test_kinds_that_are_not_in_the_table_have_a_code() -> None:
    class Special(NotFound):
        pass

    assert code_of(Special()) == grpc.StatusCode.NOT_FOUND
    assert code_of(RatusError()) == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("character", ["x", "é", "🐀", "%"])
def test_texts_beyond_what_trailers_carry_are_cut(character: str) -> None:
    error = BadRequest(character * 5000, field=character * 5000)
    status = to_status(error)
    assert status.message.startswith("bad request: ")
    assert str(error).startswith(status.message)
    assert len(status_block(code_of(error), status.message, status.SerializeToString(), alone=True)) < 8000


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        ("UNAVAILABLE", "failed to connect", StorageUnavailable),
        ("DEADLINE_EXCEEDED", "", StorageUnavailable),
        ("CANCELLED", "", ClientClosed),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 8)", TooLarge),
        ("RESOURCE_EXHAUSTED", "quota", TooMany),
        ("UNIMPLEMENTED", "Method not found!", Internal),
        ("INTERNAL", LOST_WHILE_WRITING, StorageUnavailable),
        ("INTERNAL", "of another server", Internal),
        ("UNKNOWN", "Stream removed", Internal),
        ("INVALID_ARGUMENT", "from elsewhere", Internal),
    ],
)
def test_foreign_errors(code: str, message: str, error: type[RatusError]) -> None:
    assert type(foreign(grpc.StatusCode[code], message)) is error


def failed(code: grpc.StatusCode, message: str, details: bytes | None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata() if details is None else grpc.aio.Metadata((DETAILS_KEY, details))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, message)


def test_failed_calls_become_the_errors_that_the_server_raised() -> None:
    details = to_status(NonceMismatch()).SerializeToString()
    assert type(from_rpc_error(failed(grpc.StatusCode.ABORTED, "", details))) is NonceMismatch


@pytest.mark.parametrize("details", [None, b"\xff\xff", b""])
def test_failed_calls_without_readable_details_are_foreign(details: bytes | None) -> None:
    error = failed(grpc.StatusCode.UNAVAILABLE, "gone", details)
    assert type(from_rpc_error(error)) is StorageUnavailable


def test_details_of_other_domains_and_broken_ones_are_foreign() -> None:
    status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="not found: x")
    for info in (
        error_details_pb2.ErrorInfo(domain="example.org", reason="NOT_FOUND"),
        error_details_pb2.ErrorInfo(domain="ratus", reason="OF_A_LATER_VERSION"),
    ):
        packed = Any()
        packed.Pack(info)
        status.details.append(packed)
    status.details.append(Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff"))
    assert type(from_status(status)) is StorageUnavailable
