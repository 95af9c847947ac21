"""The ASGI application in front: it reads requests, has them handled and writes the answers.

It is bare ASGI because every layer costs: 4 µs for the middleware that FastAPI always has, 5 µs more for a route
behind it, and about 20 µs for the requests and responses of Starlette.
"""

import logging
import re
from time import perf_counter
from typing import Final

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import errors
from gateway.answers import ALL_ORIGINS, JSON, Answer, Written
from gateway.calls import Call, header
from gateway.client import Client, Waiting
from gateway.metrics import RequestMetrics
from gateway.paths import Router
from gateway.protocol import WHOLE
from ratus.errors import ClientClosed, NotFound, RatusError, TooLarge

GZIP_BYTES: Final = 1024  # below, compression is not worth its time
GZIP_LEVEL: Final = 5

_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-max-age", b"43200"),
)
_JSON_HEADERS: Final = b"%b: %b\r\ncontent-type: %b\r\n" % (*ALL_ORIGINS, JSON)
_NOT_FOUND: Final = errors.answer(NotFound())

_REFUSED: Final = re.compile(rb"\bgzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.IGNORECASE)  # RFC 9110, section 12.4.2

_logger = logging.getLogger(__name__)


class Face:
    """Serves the routes of a router, and lets `site` serve the pages beside them."""

    def __init__(self, router: Router, site: ASGIApp, metrics: RequestMetrics, max_request_bytes: int) -> None:
        self._router = router
        self._site = site
        self._metrics = metrics
        self._max_request_bytes = max_request_bytes
        self._waiting = Waiting()

    def drain(self) -> None:
        """End what waits, also where no backend could: streams whose clients do not read, or of a backend elsewhere."""
        self._waiting.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request as ASGI has it."""
        if scope["type"] != "http":
            await self._site(scope, receive, send)
            return
        started = perf_counter()
        answer, topic, endpoint = await self._answer(scope, receive, send)
        until: float | None = None
        if answer is None:
            status = await self._serve_site(scope, receive, send)
        elif isinstance(answer, Written):
            status, until = answer
        else:
            status = answer.status
            await _write(answer, scope, receive, send)
        self._metrics.observe(topic, scope["method"], endpoint, status, (until or perf_counter()) - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> tuple[Answer | Written | None, str, str]:
        """The answer, the topic of the path and the endpoint; no answer if the site may have one."""
        topic = endpoint = ""
        method, raw_path = scope["method"], scope["raw_path"]
        client = Client(receive, send, self._waiting)
        try:
            match = self._router.match(raw_path)
            if raw_path.endswith(b"/") and raw_path != b"/":
                return self._redirect(scope) or _unserved(scope), topic, endpoint
            if match is None:
                return None if method in ("GET", "HEAD") else _unserved(scope), topic, endpoint
            route = match.resource.routes.get(method)
            if route is None:
                return _unserved(scope), topic, endpoint
            topic, endpoint = match.topic, match.resource.endpoint
            body = await self._read(scope, receive) if route.reads_body else b""
            call = Call(topic, match.id, scope["query_string"], scope["headers"], body, client)
            return await route.handler(call), topic, endpoint
        except RatusError as error:
            return errors.answer(error), topic, endpoint
        except Exception:  # a fault; whatever it is, its client is answered and others are served on
            _logger.exception("%s %s failed", method, endpoint)
            # What has begun cannot be taken back: it stays without an end, which the client will notice.
            return Written(200, client.begun) if client.begun else errors.INTERNAL, topic, endpoint

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        announced = header(scope["headers"], b"content-length")
        if announced.isdigit() and int(announced) > self._max_request_bytes:
            raise self._too_large()  # without waiting for a body that a client may send only if it is asked to
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            whole: bytes = message.get("body", b"")
            if len(whole) > self._max_request_bytes:
                raise self._too_large()
            return whole
        chunks, size = [], 0
        while message["type"] == "http.request":
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_request_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()
        raise ClientClosed

    def _too_large(self) -> TooLarge:
        return TooLarge(f"request body exceeds the maximum of {self._max_request_bytes} bytes")

    def _redirect(self, scope: Scope) -> Answer | None:
        """The way to the same path without its trailing slash, where that is served."""
        path: bytes = scope["raw_path"][:-1]
        match = self._router.match(path)
        if match is None or scope["method"] not in ("GET", "HEAD") or "GET" not in match.resource.routes:
            return None
        query: bytes = scope["query_string"]
        return Answer(301, headers=((b"location", path + b"?" + query if query else path),))

    async def _serve_site(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = 0

        async def send_to_all(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], ALL_ORIGINS]
            await send(message)

        await self._site({**scope, "method": "GET"}, receive, send_to_all)
        return status


def _unserved(scope: Scope) -> Answer:
    """The answer where no route is: browsers ask with OPTIONS before they cross origins, the rest is not found."""
    headers = scope["headers"]
    if scope["method"] != "OPTIONS" or not header(headers, b"origin"):
        return _NOT_FOUND
    wanted = header(headers, b"access-control-request-headers")
    return Answer(204, headers=(*_PREFLIGHT, (b"access-control-allow-headers", wanted)) if wanted else _PREFLIGHT)


async def _write(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    status, body, content_type, further = answer
    if content_type is JSON and not further and 0 < len(body) < GZIP_BYTES:
        write_whole = scope.get(WHOLE)
        if write_whole is not None and write_whole(status, _JSON_HEADERS, body):
            return
    headers = [ALL_ORIGINS, *further]
    if body:
        headers.append((b"content-type", content_type))
    if status != 204:
        headers.append((b"content-length", b"%d" % len(body)))
    start = {"type": "http.response.start", "status": status, "headers": headers}
    end = {"type": "http.response.body", "body": body}
    if len(body) >= GZIP_BYTES:
        accepted = header(scope["headers"], b"accept-encoding")
        if b"gzip" in accepted and _REFUSED.search(accepted) is None:
            await _write_packed(start, end, scope, receive, send)
            return
        headers.append((b"vary", b"Accept-Encoding"))
    await send(start)
    await send(end)


async def _write_packed(start: Message, end: Message, scope: Scope, receive: Receive, send: Send) -> None:
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send(end)

    await GZipMiddleware(plain, minimum_size=GZIP_BYTES, compresslevel=GZIP_LEVEL)(scope, receive, send)
