"""What a server and its writer say to each other: frames of JSON over a socket.

A frame is the length of its content (four bytes, little-endian), its kind (one), and the content. The server sends
calls, and the writer answers, in their order, though not frame by frame. In between the writer sends what it logs.
"""

import struct
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Raw, Struct

from ratus.engines.sqlite import writes
from ratus.engines.sqlite.groups import Answer, Call, Operation
from ratus.errors import NonceMismatch, NotFound, RatusError, StorageUnavailable, TaskNotPending, TooLarge

_HEADER: Final = struct.Struct("<IB")

_RESULTS: Final = {error.reason: error for error in (NotFound, TaskNotPending, NonceMismatch)}
_FAULTS: Final = {error.reason: error for error in (StorageUnavailable, TooLarge)}


class Kind(IntEnum):
    """What a frame is."""

    CALLS = 1  # the only one from the server
    READY = 2  # the file is open; or why it cannot be, as text
    ANSWERS = 3
    LOG = 4


class Log(Struct, array_like=True):
    """A line of the log."""

    logger: str
    level: int
    text: str


class _Call(Struct, array_like=True):
    operation: str
    entries: Raw


class _Answer(Struct, array_like=True):
    fault: str | None  # the reason of the error, if all has failed
    detail: str
    results: Raw


class _Codec:
    """How the entries and results of an operation travel, by the annotations of its function.

    Among the results errors travel as their reasons.
    """

    def __init__(self, operation: Operation[Any, Any]) -> None:
        hints = list(get_type_hints(operation).values())
        entries, results = hints[1], hints[-1]
        [result] = get_args(results)
        kinds = get_args(result) if get_origin(result) in (Union, UnionType) else (result,)
        errors = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, RatusError)]
        self.has_errors: Final = bool(errors)
        if errors:
            result = Union[(str, *(kind for kind in kinds if kind not in errors))]
        self.decode_entries: Final = msgspec.json.Decoder(entries).decode
        self.decode_results: Final = msgspec.json.Decoder(list[result]).decode  # type: ignore[valid-type]  # made at run time
        self.operation: Final = operation


_CODECS: Final = {
    operation.__name__: _Codec(operation)
    for operation in (
        writes.insert,
        writes.upsert,
        writes.claim,
        writes.promise,
        writes.commit,
        writes.commit_without_payloads,
        writes.extend,
        writes.release,
        writes.delete_promise,
        writes.delete,
        writes.delete_some,
        writes.delete_finished,
        writes.free_some,
        writes.forget_topics,
        writes.last_seq,
    )
}


def _reason(error: Any) -> str:
    assert isinstance(error, RatusError)
    return error.reason


_encode: Final = msgspec.json.Encoder(enc_hook=_reason).encode
_decode_calls: Final = msgspec.json.Decoder(list[_Call]).decode
_decode_answers: Final = msgspec.json.Decoder(list[_Answer]).decode


def frame(kind: Kind, content: bytes) -> bytes:
    """A whole frame."""
    return _HEADER.pack(len(content), kind) + content


class Frames:
    """Takes apart what comes off a socket."""

    def __init__(self) -> None:
        self._rest = bytearray()  # the begin of a frame

    def take(self, data: bytes) -> list[tuple[int, bytes]]:
        """The kind and the content of each frame that is complete with this data."""
        self._rest += data
        frames, position = [], 0
        while len(self._rest) - position >= _HEADER.size:
            size, kind = _HEADER.unpack_from(self._rest, position)
            begin, end = position + _HEADER.size, position + _HEADER.size + size
            if len(self._rest) < end:
                break
            with memoryview(self._rest) as view:
                frames.append((kind, bytes(view[begin:end])))
            position = end
        if position:
            self._rest = self._rest[position:]  # a new one, as a large one would keep its memory
        return frames


def encode_calls(calls: Sequence[Call]) -> bytes:
    """The content of a frame with a group of calls."""
    return _encode([(call.operation.__name__, call.entries) for call in calls])


def decode_calls(content: bytes) -> list[Call]:
    """The calls of a frame."""
    calls = []
    for call in _decode_calls(content):
        codec = _CODECS[call.operation]
        calls.append(Call(codec.operation, codec.decode_entries(call.entries)))
    return calls


def encode_answers(answers: Sequence[Answer]) -> bytes:
    """The content of a frame with answers."""
    return _encode([_encoded(answer) for answer in answers])


def _encoded(answer: Answer) -> tuple[str | None, str, Sequence[Any]]:
    if isinstance(answer, RatusError):
        return answer.reason, answer.detail, ()
    if isinstance(answer, BaseException):
        return type(answer).__name__, str(answer), ()
    return None, "", answer


def decode_answers(operations: deque[Operation[Any, Any]], content: bytes) -> list[Answer]:
    """The answers of a frame to as many operations, which are taken away."""
    return [_decoded(_CODECS[operations.popleft().__name__], answer) for answer in _decode_answers(content)]


def _decoded(codec: _Codec, answer: _Answer) -> Answer:
    if answer.fault is not None:
        fault = _FAULTS.get(answer.fault)
        return RuntimeError(f"{answer.fault}: {answer.detail}") if fault is None else fault(answer.detail)
    results: list[Any] = codec.decode_results(answer.results)
    if codec.has_errors:
        return [_RESULTS[result]() if isinstance(result, str) else result for result in results]
    return results


def encode_log(line: Log) -> bytes:
    """The content of a frame with a line of the log."""
    return _encode(line)


def decode_log(content: bytes) -> Log:
    """The line of a frame."""
    return msgspec.json.decode(content, type=Log)
