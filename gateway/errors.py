"""The one mapping from the errors of Ratus to answers of the REST face."""

import logging
from typing import Final

from msgspec import Struct

from gateway.answers import Answer, encode
from ratus.errors import (
    BadRequest,
    ClientClosed,
    Conflict,
    Internal,
    NotFound,
    RatusError,
    TooLarge,
    TooMany,
    Unavailable,
    Unsupported,
)

STATUSES: Final[dict[type[RatusError], int]] = {
    BadRequest: 400,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    TooMany: 429,
    ClientClosed: 499,
    Unsupported: 501,
    Unavailable: 503,
}

_logger = logging.getLogger(__name__)


class ErrorBody(Struct):
    """An error as the client sees it."""

    code: int
    message: str


def body(error: RatusError) -> ErrorBody:
    """What the client sees of an error; Internal says nothing, so it is logged."""
    for kind in type(error).__mro__:
        status = STATUSES.get(kind)
        if status is not None:
            return ErrorBody(status, str(error))
    _logger.error("%s", error, exc_info=error)
    return _INTERNAL


def answer(error: RatusError) -> Answer:
    """The answer to a call that failed."""
    return _form(body(error))


def _form(body: ErrorBody) -> Answer:
    return Answer(body.code, encode({"error": body}))


_INTERNAL: Final = ErrorBody(500, Internal.kind)
INTERNAL: Final = _form(_INTERNAL)
