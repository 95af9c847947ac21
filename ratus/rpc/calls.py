"""What happens around every call: decoding, errors, metrics, and the end of service.

The generated code registers handlers on a server; `Calls` takes its place, wraps each handler in one coroutine and
passes them on. That costs less than a chain of interceptors, which grpc.aio runs anew for every call.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, Final, Self, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from ratus.config import MAX_REQUEST_BYTES
from ratus.errors import BadRequest, Draining, Internal, RatusError, TooLarge
from ratus.memory import Keeper
from ratus.rpc.errors import DETAILS_KEY, code_of, to_status
from ratus.rpc.metrics import Meter, RPCMetrics

# Messages up to here are read, so that those beyond the bound get an answer of ours with all its details; what is
# still larger is refused by the gRPC library with the same code.
MAX_RECEIVE_BYTES: Final = 2 * MAX_REQUEST_BYTES

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs alone
Behaviour = Callable[[Any, Context], Awaitable[Any]]

_OWN: Final = "ratus."
_TYPES: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}

_logger = logging.getLogger(__name__)


class Calls:
    """The calls of one server: registers handlers, knows those under way, and refuses new ones once it drains."""

    def __init__(self, server: grpc.aio.Server, metrics: RPCMetrics) -> None:
        self._server = server
        self._metrics = metrics
        self._memory = Keeper()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._begun: set[asyncio.Task[Any]] = set()  # what unary calls do, which outlives a client that goes away
        self._draining = False

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """What generated code calls first; the handlers in it cannot be wrapped, and they come again."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Register the handlers of a service, each wrapped."""
        wrapped = {method: self._wrapped(service, method, handler) for method, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    def drain(self) -> None:
        """Refuse new calls of our services with Draining."""
        self._draining = True

    async def ended(self) -> None:
        """Stop what is still under way, once the grace period is over, and wait until nothing is."""
        for begun in self._begun:
            begun.cancel()
        while under_way := self._tasks | self._begun:
            await asyncio.wait(under_way)

    def _wrapped(self, service: str, method: str, handler: Handler) -> Handler:
        streams = (handler.request_streaming, handler.response_streaming)
        meter = self._metrics.meter(_TYPES[streams], service, method)
        refusable = service.startswith(_OWN)
        serializer = handler.response_serializer
        match streams:
            case (False, False):
                # A client that goes away does not stop what it has asked for, so that all that follows from it
                # (waking consumers, room in windows) is done too. A claim is stopped: it is for that client alone.
                finish = refusable and not method.startswith(("Claim", "Get", "List"))
                call = self._call(handler.unary_unary, meter, handler.request_deserializer, refusable, finish=finish)
                return grpc.unary_unary_rpc_method_handler(call, response_serializer=serializer)
            case (False, True):
                call = self._call(handler.unary_stream, meter, handler.request_deserializer, refusable)
                return grpc.unary_stream_rpc_method_handler(call, response_serializer=serializer)
            case (True, True):
                call = self._call(
                    _decoding(handler.stream_stream, handler.request_deserializer), meter, None, refusable
                )
                return grpc.stream_stream_rpc_method_handler(call, response_serializer=serializer)
        raise NotImplementedError(f"{service}/{method}: client streaming is not used")

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task

    def _call(
        self,
        behaviour: Any,
        meter: Meter,
        parse: Callable[[bytes], Any] | None,
        refusable: bool,
        *,
        finish: bool = False,
    ) -> Behaviour:
        """The coroutine function around a handler; without `parse` the request is passed on as it is."""
        tasks, memory = self._tasks, self._memory

        async def call(request: Any, context: Context) -> Any:
            begin = perf_counter()
            meter.start()
            if not finish:  # what is finished anyway is known by itself
                task = asyncio.current_task()
                assert task is not None
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            code = grpc.StatusCode.OK
            failure: RatusError
            try:
                if refusable and self._draining:
                    raise Draining("connect elsewhere")
                if parse is not None:
                    memory.served(len(request))
                    request = _decoded(request, parse)
                if finish:
                    return await asyncio.shield(self._begin(behaviour(request, context)))
                return await behaviour(request, context)
            except RatusError as error:
                failure = _bare(error)
                code = code_of(error)
            except asyncio.CancelledError:
                code = _cancellation(context)
                raise
            except grpc.aio.AbortError:
                code = context.code()
                raise
            except grpc.aio.BaseError:  # the client went away while we were writing
                code = _cancellation(context)
                raise
            except Exception:
                _logger.exception("a gRPC call failed")
                failure = Internal()
                code = grpc.StatusCode.INTERNAL
            finally:
                meter.finish(code, perf_counter() - begin)
            # The gRPC library keeps what it raises to end the call, in a ring with this frame: so it must not hold the
            # request, which would stay until the garbage collector comes, however large it is.
            request = None
            return await _abort(context, failure)  # counted by now, so that who knows of it finds it in the metrics

        return call


class _Decoded:
    """The messages of a stream; BadRequest at one that is malformed, which the gRPC library would call INTERNAL."""

    def __init__(self, requests: AsyncIterator[bytes], parse: Callable[[bytes], Any]) -> None:
        self._requests = aiter(requests)
        self._parse = parse

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return _decoded(await anext(self._requests), self._parse)


def _decoding(behaviour: Any, parse: Callable[[bytes], Any] | None) -> Behaviour:
    assert parse is not None  # generated code has one for every method

    def decoding(requests: Any, context: Context) -> Awaitable[Any]:
        awaitable: Awaitable[Any] = behaviour(_Decoded(requests, parse), context)
        return awaitable

    return decoding


def _decoded(request: bytes, parse: Callable[[bytes], Any]) -> Any:
    if len(request) > MAX_REQUEST_BYTES:
        raise TooLarge(f"a request of {len(request)} bytes exceeds the maximum of {MAX_REQUEST_BYTES}")
    try:
        return parse(request)
    except DecodeError as error:
        raise BadRequest(f"malformed message: {error}") from None


def _bare(error: RatusError) -> RatusError:
    """An error without the frames that it came through, which hold the request."""
    error.__context__ = None
    return error.with_traceback(None)


def _cancellation(context: Context) -> grpc.StatusCode:
    return grpc.StatusCode.DEADLINE_EXCEEDED if context.time_remaining() == 0 else grpc.StatusCode.CANCELLED


async def _abort(context: Context, error: RatusError) -> None:
    status = to_status(error)
    await context.abort(code_of(error), status.message, ((DETAILS_KEY, status.SerializeToString()),))
