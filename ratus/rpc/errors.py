"""The one mapping between the errors of Ratus and `google.rpc.Status`, both ways.

A status carries the text of the error, an `ErrorInfo` with the domain `ratus` and the reason, and for a bad field
a `BadRequest`. Errors that other software made (proxies, the gRPC library) have no such details; see `foreign`.
"""

import logging
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from ratus.errors import (
    BadRequest,
    ClientClosed,
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
    Unsupported,
)

DOMAIN: Final = "ratus"
DETAILS_KEY: Final = "grpc-status-details-bin"
LOST_WHILE_WRITING: Final = "Internal error from Core"  # of our end: a message of a stream met a lost connection
MAX_TEXT: Final = 1000  # bytes; clients refuse trailers beyond 8 KiB, and the text travels twice

_CODES: Final[dict[type[RatusError], grpc.StatusCode]] = {
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    TaskExists: grpc.StatusCode.ALREADY_EXISTS,
    TaskNotPending: grpc.StatusCode.FAILED_PRECONDITION,
    NonceMismatch: grpc.StatusCode.ABORTED,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooMany: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ClientClosed: grpc.StatusCode.CANCELLED,
    Unsupported: grpc.StatusCode.FAILED_PRECONDITION,
    StorageUnavailable: grpc.StatusCode.UNAVAILABLE,
    Draining: grpc.StatusCode.UNAVAILABLE,
    Internal: grpc.StatusCode.INTERNAL,
}
_CLASSES: Final = {cls.reason: cls for cls in _CODES}
_NUMBERS: Final[dict[grpc.StatusCode, int]] = {code: code.value[0] for code in grpc.StatusCode}
_BY_NUMBER: Final = {number: code for code, number in _NUMBERS.items()}

_logger = logging.getLogger(__name__)


def code_of(error: RatusError) -> grpc.StatusCode:
    """The gRPC code of an error; that of its nearest base in the table, if it is not in there itself."""
    return next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), grpc.StatusCode.INTERNAL)


def to_status(error: RatusError) -> status_pb2.Status:
    """The status that says what the error says."""
    status = status_pb2.Status(code=_NUMBERS[code_of(error)], message=_short(str(error)))
    if not isinstance(error, ClientClosed):
        status.details.append(_packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)))
    if isinstance(error, BadRequest) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_short(error.field), description=_short(error.description)
        )
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    return status


def from_status(status: status_pb2.Status) -> RatusError:
    """The error that a status other than OK stands for, with the same text."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if _unpack(detail, info) and info.domain == DOMAIN and info.reason in _CLASSES:
            cls = _CLASSES[info.reason]
            text = status.message.removeprefix(cls.kind).removeprefix(": ")
            if issubclass(cls, BadRequest):
                return _bad_request(text, status)
            return cls(text)
    return foreign(_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN), status.message)


def from_rpc_error(error: grpc.aio.AioRpcError) -> RatusError:
    """The error that a failed call stands for."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break  # whoever wrote it, it was not a Ratus server
            if status.code:
                return from_status(status)
    return foreign(error.code(), error.details() or "")


def foreign(code: grpc.StatusCode, message: str) -> RatusError:
    """The error for a status without our details: from the gRPC library, a proxy, or no Ratus server at all."""
    _logger.debug("foreign gRPC status %s: %s", code.name, message)
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return StorageUnavailable("the server cannot be reached")
        case grpc.StatusCode.INTERNAL if message == LOST_WHILE_WRITING:
            return StorageUnavailable("the server cannot be reached")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return StorageUnavailable("the server did not answer in time")
        case grpc.StatusCode.CANCELLED:
            return ClientClosed()
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in message:
            return TooLarge("the message exceeds the limit of the server")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TooMany(message)
    _logger.error("unexpected gRPC status %s: %s", code.name, message)
    return Internal()


def _short(text: str) -> str:
    return text.encode()[:MAX_TEXT].decode(errors="ignore")  # no character is cut in two


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _unpack(detail: Any, message: Message) -> bool:
    try:
        return detail.Unpack(message)
    except DecodeError:
        return False


def _bad_request(text: str, status: status_pb2.Status) -> BadRequest:
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if _unpack(detail, bad) and bad.field_violations:
            violation = bad.field_violations[0]
            return BadRequest(violation.description, field=violation.field, bare=text == violation.description)
    return BadRequest(text)
