"""Reading lists to their end, page after page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from ratus.errors import BadRequest
from ratus.model import Page, PageRequest

T = TypeVar("T")
Read = Callable[[PageRequest], Awaitable[Page[T]]]

_SIZES: Final = (1000, 100, 0)  # from what is fast to what every server grants


async def pages(read: Read[T], *, token: str = "", most: int | None = None) -> AsyncIterator[Page[T]]:
    """All pages from a token on, as large as the server grants, with at most so many items together."""
    left, sizes = most, list(_SIZES)
    while left is None or left > 0:
        size = sizes[0] if left is None else min(sizes[0], left) or sizes[0]
        try:
            page = await read(PageRequest(limit=size, token=token))
        except BadRequest as error:
            if error.field != "limit" or len(sizes) == 1:
                raise
            del sizes[0]
            continue
        if left is not None:
            page.items = page.items[:left]
            left -= len(page.items)
        yield page
        token = page.next_token
        if not token:
            return


async def items(read: Read[T], most: int | None = None) -> list[T]:
    """The items of all pages, at most so many."""
    return [item async for page in pages(read, most=most) for item in page.items]
