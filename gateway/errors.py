"""The one mapping from the errors of Ratus to answers of the REST face."""

import logging
from typing import Final

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
)

STATUSES: Final[dict[type[RatusError], int]] = {
    BadRequest: 400,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    TooMany: 429,
    ClientClosed: 499,
    Unavailable: 503,
}

_logger = logging.getLogger(__name__)


def answer(error: RatusError) -> Answer:
    """The answer to a call that failed; Internal says nothing to the client, so it is logged."""
    for kind in type(error).__mro__:
        status = STATUSES.get(kind)
        if status is not None:
            return _form(status, str(error))
    _logger.error("%s", error, exc_info=error)
    return INTERNAL


def _form(code: int, message: str) -> Answer:
    return Answer(code, encode({"error": {"code": code, "message": message}}))


INTERNAL: Final = _form(500, Internal.kind)
