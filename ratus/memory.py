"""Memory that large requests took: given back to the system, which the C library would not do by itself.

The allocator of glibc keeps what was freed, in an arena for each thread, and learns from large blocks that are freed to
keep larger ones. Where there is another C library, nothing of this is done.
"""

import asyncio
import ctypes
from typing import Final

# Bytes of a block that gets pages of its own, and of a request after which some are given back.
LARGE: Final = 256 * 1024
_PAUSE: Final = 1.0  # seconds; many large requests are looked after at once
_MMAP_THRESHOLD: Final = -3  # of mallopt

_library: Final = ctypes.CDLL(None)


def keep_large_blocks_apart() -> None:
    """Let large blocks have pages of their own from here on, which are given back once they are free."""
    if hasattr(_library, "mallopt"):
        _library.mallopt(_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Give back to the system what is free."""
    if hasattr(_library, "malloc_trim"):
        _library.malloc_trim(0)


class Keeper:
    """Gives back what is free, some time after large requests."""

    def __init__(self) -> None:
        self._due = False

    def served(self, size: int) -> None:
        """A request of so many bytes is being served."""
        if size >= LARGE and not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_PAUSE, self._give_back)

    def _give_back(self) -> None:
        self._due = False  # what is large from here on is looked after anew
        asyncio.get_running_loop().run_in_executor(None, give_back)
