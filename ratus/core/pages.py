"""Pages of lists, and the tokens that lead from one to the next."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from ratus.errors import BadRequest
from ratus.model import Page, PageRequest

T = TypeVar("T")


def first_after(page: PageRequest) -> str:
    """The key that a page token stands for."""
    try:
        return base64.b64decode(page.token.encode("ascii"), b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise BadRequest("is not a token of an earlier answer", field="page_token") from None


def page_of(items: Sequence[T], size: int, key: Callable[[T], str]) -> Page[T]:
    """The first items, with a token if there are more."""
    more = len(items) > size
    return Page(list(items[:size]), base64.urlsafe_b64encode(key(items[size - 1]).encode()).decode() if more else "")
