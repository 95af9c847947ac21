"""The pages beside the API: Swagger UI from local files and the OpenAPI document, by FastAPI."""

from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from gateway import errors
from gateway.answers import Answer
from ratus.errors import NotFound


def create_site(document: dict[str, Any]) -> FastAPI:
    """The FastAPI application that serves this OpenAPI document and its user interface at `/`."""
    site = FastAPIOffline(
        docs_url="/",
        redoc_url=None,
        openapi_url="/openapi.json",
        title=document["info"]["title"],
        redirect_slashes=False,
        swagger_ui_parameters={"validatorUrl": None},
        middleware=[Middleware(GZipMiddleware)],
        exception_handlers={HTTPException: _not_found, Exception: _internal},
    )
    site.openapi = lambda: document  # type: ignore[method-assign]  # FastAPI documents this way
    return site


async def _not_found(request: Request, error: Exception) -> Response:
    return _response(errors.answer(NotFound()))


async def _internal(request: Request, error: Exception) -> Response:
    return _response(errors.INTERNAL)


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, media_type=answer.content_type.decode())
