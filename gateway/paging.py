"""Lists: REST pages by offset, so that a page must be whole."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ratus.model import Page, PageRequest
from ratus.rules import DEFAULT_PAGE

T = TypeVar("T")


async def collect(fetch: Callable[[PageRequest], Awaitable[Page[T]]], request: PageRequest) -> list[T]:
    """The items of a page, which the backend may have cut short by size: then the rest follows by its token."""
    wanted = request.limit or DEFAULT_PAGE
    page = await fetch(request)
    items = page.items
    while page.next_token and len(items) < wanted:
        rest = wanted - len(items) if request.limit else 0
        page = await fetch(PageRequest(limit=rest, token=page.next_token))
        items += page.items
    return items[:wanted]
