"""The names of the fields of a page, which differ between REST and gRPC."""

from collections.abc import Awaitable
from typing import Final, TypeVar

from ratus.errors import BadRequest

T = TypeVar("T")

_RPC: Final = {"limit": "page_size", "offset": "skip"}
_REST: Final = {rpc: rest for rest, rpc in _RPC.items()}


async def page_fields(answer: Awaitable[T], *, remote: bool = False) -> T:
    """An answer whose BadRequest names fields as gRPC does, or with `remote` the other way round."""
    try:
        return await answer
    except BadRequest as error:
        field = (_REST if remote else _RPC).get(error.field, error.field)
        raise BadRequest(error.description, field=field, bare=error.bare) from None
