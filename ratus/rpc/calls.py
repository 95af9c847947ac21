"""What happens around every call: which method it is for, decoding, errors, metrics, and the end of service.

The generated code registers handlers on a server; `Calls` takes the place of one.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Any, Final, Self, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from ratus.ending import cancel
from ratus.errors import BadRequest, Internal, RatusError
from ratus.http2.errors import StreamClosed, StreamFault
from ratus.http2.frames import Code
from ratus.http2.headers import Headers, encode
from ratus.http2.outgoing import Outgoing
from ratus.http2.stream import Stream
from ratus.memory import Keeper
from ratus.rpc.call import Aborted, Call, Method, Refused, Request, status_block
from ratus.rpc.errors import code_of
from ratus.rpc.messages import ENCODINGS, Message
from ratus.rpc.metrics import Meter, RPCMetrics

Failure = TypeVar("Failure", bound=BaseException)
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs alone

_OWN: Final = "ratus."
_TYPES: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
_CONTENT_TYPE: Final = re.compile(rb"application/grpc([+;].*)?")  # but not that of gRPC-Web
_ACCEPTED: Final = encode([(b"grpc-accept-encoding", b",".join(ENCODINGS))])
_NAME: Final = re.compile(rb":?[!#$%&'*+.^_`|~0-9a-z-]+")  # a token without capitals
_NOT_IN_VALUES: Final = re.compile(rb"[\0\r\n]")
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_TIMEOUT: Final = 365 * 86400.0  # seconds; event loops do not like more
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_OF_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)

_logger = logging.getLogger(__name__)


class Calls:
    """The methods of one server, and the calls that are under way."""

    def __init__(self, metrics: RPCMetrics) -> None:
        self._metrics = metrics
        self._memory = Keeper()
        self._methods: dict[bytes, Method] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """What generated code calls first; the handlers in it come again."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Register the handlers of a service."""
        for name, handler in handlers.items():
            self._methods[f"/{service}/{name}".encode()] = self._method(service, name, handler)

    def read(self, headers: Headers) -> Request:
        """What a head asks for; StreamFault if it is malformed."""
        fields = _fields(headers)
        if fields[b":method"] != b"POST":
            return Request(None, encode([(b":status", b"405"), (b"allow", b"POST")]))
        if not _CONTENT_TYPE.fullmatch(fields.get(b"content-type", b"")):
            return Request(None, encode([(b":status", b"415")]))
        method = self._methods.get(fields[b":path"])
        if method is None:
            path = fields[b":path"].decode("ascii", "replace")[:200]
            return Request(None, status_block(grpc.StatusCode.UNIMPLEMENTED, f"unknown method {path}", alone=True))
        encoding = fields.get(b"grpc-encoding", b"identity")
        if encoding not in ENCODINGS:
            why = f"unknown grpc-encoding {encoding.decode(errors='replace')[:50]}"
            return Request(None, status_block(grpc.StatusCode.UNIMPLEMENTED, why, alone=True) + _ACCEPTED)
        timeout = fields.get(b"grpc-timeout")
        if timeout is None:
            return Request(method, encoding=encoding)
        match = _TIMEOUT.fullmatch(timeout)
        if match is None:
            return Request(None, status_block(grpc.StatusCode.INTERNAL, "malformed grpc-timeout", alone=True))
        seconds = min(int(match[1]) * _UNITS[match[2]], _MAX_TIMEOUT)
        return Request(method, timeout=seconds, encoding=encoding)

    def open(self, connection: Outgoing, number: int, request: Request) -> Stream:
        """The call."""
        if request.method is None:
            return Refused(connection, number, request.refusal)
        return Call(connection, number, request.method, request)

    async def ended(self) -> None:
        """Stop what is still under way, once the grace period is over, and wait until nothing is."""
        await cancel(*self._tasks)

    def _method(self, service: str, name: str, handler: Handler) -> Method:
        streams = (handler.request_streaming, handler.response_streaming)
        meter = self._metrics.meter(_TYPES[streams], service, name)
        own = service.startswith(_OWN)
        serialize, parse = handler.response_serializer, handler.request_deserializer
        assert serialize is not None and parse is not None  # generated code has them for every method
        match streams:
            case (False, False):
                behaviour = handler.unary_unary
            case (False, True):
                behaviour = handler.unary_stream
            case (True, True):
                behaviour = handler.stream_stream
            case _:
                raise NotImplementedError(f"{service}/{name}: client streaming is not used")
        if inspect.isasyncgenfunction(behaviour):
            behaviour = _writing(behaviour)
        # A client that goes away does not stop what it has asked for, so that all that follows from it
        # (waking consumers, room in windows) is done too. A claim is stopped: it is for that client alone.
        finished = own and streams == (False, False) and not name.startswith(("Claim", "Get", "List"))
        serve = self._serving(behaviour, meter, parse, None if streams[1] else serialize)
        return Method(serve, serialize, streamed=streams[0], finished=finished)

    def _serving(
        self,
        behaviour: Any,
        meter: Meter,
        parse: Callable[[bytes], Any],
        serialize: Callable[[Any], bytes] | None,
    ) -> Callable[[Call, Message | None], Any]:
        """The coroutine function around a handler; with `serialize` its result is the answer."""
        tasks, memory = self._tasks, self._memory

        async def serve(call: Call, message: Message | None) -> None:
            begin = perf_counter()
            meter.start()
            task = call.task
            assert task is not None
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            del task  # which would hold itself, by the error that it is cancelled with
            code = grpc.StatusCode.OK
            failure: RatusError | None = None
            answer = None
            try:
                request: Any
                if message is None:
                    request = _Decoded(call, parse)
                else:
                    if not isinstance(message, bytes):
                        message = call.opened(message)
                    request = _decoded(message, parse)
                    memory.served(len(message))
                answer = await behaviour(request, call)
                if serialize is not None:
                    answer = serialize(answer)
            except RatusError as error:
                failure = _bare(error)
                code = code_of(error)
            except (asyncio.CancelledError, StreamClosed) as error:
                _bare(error)
                code = _unwanted(call)
                return  # also when cancelled, or the task would keep the error with its frames, and these the call
            except Aborted as error:
                code = error.code
                return
            except Exception:
                _logger.exception("a gRPC call failed")
                failure = Internal()
                code = grpc.StatusCode.INTERNAL
            finally:
                if call.closed and code is grpc.StatusCode.OK:
                    code = _unwanted(call)
                meter.finish(code, perf_counter() - begin)
            # Counted by now, so that who knows of it finds it in the metrics.
            if failure is None:
                call.succeed(answer)
            else:
                call.fail(failure)

        return serve


class _Decoded:
    """The messages of a stream; BadRequest at one that is malformed."""

    def __init__(self, call: Call, parse: Callable[[bytes], Any]) -> None:
        self._call = call
        self._parse = parse

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return _decoded(await anext(self._call), self._parse)


def _writing(behaviour: Any) -> Any:
    """An asynchronous generator of answers as a coroutine function that writes them."""

    async def write(requests: AsyncIterator[Any], call: Call) -> None:
        async for response in behaviour(requests, call):
            await call.write(response)

    return write


def _decoded(message: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(message)
    except DecodeError as error:
        raise BadRequest(f"malformed message: {error}") from None


def _bare(error: Failure) -> Failure:
    """An error without the frames that it came through, which hold the request and, in a ring, the error."""
    error.__context__ = None
    return error.with_traceback(None)


def _unwanted(call: Call) -> grpc.StatusCode:
    return grpc.StatusCode.DEADLINE_EXCEEDED if call.expired else grpc.StatusCode.CANCELLED


def _fields(headers: Headers) -> dict[bytes, bytes]:
    """The fields of a head by their names (of those that come twice the last); StreamFault if HTTP/2 forbids them."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if not _NAME.fullmatch(name) or _NOT_IN_VALUES.search(value):
            raise StreamFault(Code.PROTOCOL_ERROR, "malformed fields")
        pseudo = name.startswith(b":")
        if pseudo and (name not in _PSEUDO or name in fields or not _PSEUDO.issuperset(fields)):
            raise StreamFault(Code.PROTOCOL_ERROR, "malformed pseudo-header fields")
        if name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            raise StreamFault(Code.PROTOCOL_ERROR, "a field that HTTP/2 does not allow")
        fields[name] = value
    if not {b":method", b":path", b":scheme"}.issubset(fields):
        raise StreamFault(Code.PROTOCOL_ERROR, "pseudo-header fields are missing")
    return fields
