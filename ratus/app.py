"""Puts the parts together and runs them in one event loop, until a signal asks for the end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry

import ratus
from gateway import create_app
from gateway.face import Face
from gateway.protocol import Protocol
from ratus.config import GRACE, GatewaySettings, Listen, MongoDBSettings, ServeSettings
from ratus.core.chores import run_chores
from ratus.core.service import Service
from ratus.ending import cancel
from ratus.engines.base import Engine
from ratus.engines.sqlite import SQLiteEngine
from ratus.errors import StartError, Unavailable
from ratus.listening import bind
from ratus.memory import keep_large_blocks_apart
from ratus.metrics import own_registry
from ratus.rpc.backend import RemoteBackend
from ratus.rpc.server import RPCServer
from ratus.tls import Certificates, channel_credentials

_log: Final = logging.getLogger(__name__)

_HEALTH_INTERVAL: Final = 1.0  # seconds
_HANDSHAKE_TIMEOUT: Final = 10.0  # seconds, of TLS
_SHUTDOWN_TIMEOUT: Final = 1.0  # seconds, of TLS

Announce = Callable[[str], None]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run until it is done, on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def serve(
    settings: ServeSettings,
    announce: Announce,
    *,
    registry: CollectorRegistry | None = None,
    lifeline: int | None = None,
) -> None:
    """Serve both faces until SIGTERM or SIGINT; StartError if that can never work.

    A worker has its metrics in the `registry` of all workers, and serves no longer than until the file descriptor
    `lifeline` is at its end.
    """
    if not settings.rest.port and not settings.grpc.port:
        raise StartError("nothing to serve: --port and --grpc-port are both 0")
    stop = _stop_signal(lifeline)
    certificates = Certificates(settings.tls) if settings.tls else None
    rest_sockets = bind("REST", settings.rest) if settings.rest.port else []
    engine, place = _engine(settings)
    await engine.open()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.close)
        registry = registry or own_registry()
        service = Service(engine, settings.limits, registry)
        stack.push_async_callback(service.close)
        rpc = await _start_rpc(service, settings.grpc, registry, certificates) if settings.grpc.port else None
        if rest_sockets:
            await stack.enter_async_context(_rest(create_app(service, registry=registry), rest_sockets, certificates))
        if rpc is not None:
            stack.push_async_callback(rpc.drain, GRACE)
            await stack.enter_async_context(_background(_watch_health(service, rpc)))
        stack.callback(service.drain)
        if certificates is not None:
            await stack.enter_async_context(_background(certificates.follow()))
        await stack.enter_async_context(_background(run_chores(service, settings.chores)))
        faces = [
            *([f"REST on {_url(settings.rest, certificates)}"] if rest_sockets else []),
            *([f"gRPC on {settings.grpc.address}{' with TLS' if certificates else ''}"] if rpc else []),
        ]
        _spare_collector()
        keep_large_blocks_apart()
        announce(f"ratus {ratus.__version__} serves {' and '.join(faces)}; engine {engine.name}, {place}")
        await stop.wait()
        _log.info("draining")


async def serve_gateway(settings: GatewaySettings, announce: Announce) -> None:
    """Serve REST in front of a gRPC server until SIGTERM or SIGINT; StartError if that can never work."""
    stop = _stop_signal()
    certificates = Certificates(settings.tls) if settings.tls else None
    credentials = channel_credentials(settings.target_tls) if settings.target_tls else None
    rest_sockets = bind("REST", settings.rest)
    backend = RemoteBackend(settings.target, credentials)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(backend.close)
        app = create_app(backend, registry=own_registry())
        await stack.enter_async_context(_rest(app, rest_sockets, certificates))
        if certificates is not None:
            await stack.enter_async_context(_background(certificates.follow()))
        announce(
            f"ratus {ratus.__version__} serves REST on {_url(settings.rest, certificates)}; "
            f"target {settings.target}{' with TLS' if credentials else ''}"
        )
        await stop.wait()
        _log.info("draining")


def _spare_collector() -> None:
    """Let the garbage collector look at what comes and goes only, and less often: a tenth of the time of a REST call.

    What has been made by now stays anyway.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 50)


def _engine(settings: ServeSettings) -> tuple[Engine, str]:
    """The engine, and where it keeps the tasks."""
    match settings.engine:
        case "sqlite":
            return SQLiteEngine(settings.sqlite, apart=True), f"file {os.path.abspath(settings.sqlite.path or '')}"
        case "memory":
            return SQLiteEngine(settings.sqlite), "nothing is kept after the end"
        case "mongodb":
            from ratus.engines.mongodb import MongoDBEngine  # only here, as the driver takes memory

            return MongoDBEngine(settings.mongodb), f"collection {_collection(settings.mongodb)}"
    raise StartError(f"unknown engine {settings.engine!r}")


def _collection(settings: MongoDBSettings) -> str:
    """Where the collection is, without the password of the URI."""
    import pymongo.uri_parser

    try:
        nodes = pymongo.uri_parser.parse_uri(settings.uri, validate=False)["nodelist"]
    except Exception as error:  # noqa: BLE001 (it raises whatever the DNS library raises for a mongodb+srv URI)
        raise StartError(f"malformed --mongodb-uri: {error}") from None
    hosts = ",".join(f"{host}:{port}" for host, port in nodes)
    return f"{settings.database}.{settings.collection} on {hosts}"


def _stop_signal(lifeline: int | None = None) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT, or the end of the lifeline; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signalled = False

    def on_signal(number: int) -> None:
        nonlocal signalled
        if signalled:
            os._exit(128 + number)
        signalled = True
        stop.set()

    if lifeline is not None:

        def on_end() -> None:  # nothing is ever written to a lifeline, so what there is to read is its end
            loop.remove_reader(lifeline)
            stop.set()

        loop.add_reader(lifeline, on_end)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _url(listen: Listen, certificates: Certificates | None) -> str:
    return f"{'https' if certificates else 'http'}://{listen.address}"


async def _start_rpc(
    service: Service, listen: Listen, registry: CollectorRegistry, certificates: Certificates | None
) -> RPCServer:
    rpc = RPCServer(service, listen, registry, certificates.context("h2") if certificates else None)
    await rpc.start()
    return rpc


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own handling of signals, which would raise them again at the end, and with bounds for TLS."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; idle clients do not answer the end of TLS, and would hold up a drain for the default of 30 s."""
        loop, config = asyncio.get_running_loop(), self.config

        def connect() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]  # the annotation has no arguments
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        more: dict[str, Any] = {}
        if config.ssl is not None:
            more = {
                "ssl": config.ssl,
                "ssl_handshake_timeout": _HANDSHAKE_TIMEOUT,
                "ssl_shutdown_timeout": _SHUTDOWN_TIMEOUT,
            }
        backlog = config.backlog
        self.servers = [await loop.create_server(connect, sock=sock, backlog=backlog, **more) for sock in sockets or ()]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _rest(
    app: Face, sockets: list[socket.socket], certificates: Certificates | None = None
) -> AsyncIterator[None]:
    """Serve an application on sockets; at the end, calls under way get the grace period."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here reads them, and they cost a tenth of the speed
        server_header=False,
        timeout_graceful_shutdown=int(GRACE),
        ssl_context_factory=(lambda *_: certificates.context("http/1.1")) if certificates else None,
    )
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve(sockets=sockets), name="rest")
    try:
        yield
    finally:
        app.drain()
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def _background(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run work until the end of the block, and end the block if it fails."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_await(work))
        try:
            yield
        finally:
            await cancel(task)


async def _await(work: Awaitable[None]) -> None:
    await work


async def _watch_health(service: Service, rpc: RPCServer) -> None:
    """Keep the health of the gRPC services true."""
    while True:
        try:
            await service.check_ready()
        except Unavailable as error:
            _log.warning("not ready: %s", error)
            rpc.set_serving(False)
        else:
            rpc.set_serving(True)
        await asyncio.sleep(_HEALTH_INTERVAL)
