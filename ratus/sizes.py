"""Sizes as people read them."""

from typing import Final

_MIB: Final = 1024**2
_GIB: Final = 1024**3


def size_text(size: int) -> str:
    """Such as `12.3 MiB`, or `45.6 GiB` from 10 GiB on."""
    if size < 10 * _GIB:
        return f"{size / _MIB:,.1f} MiB"
    return f"{size / _GIB:,.1f} GiB"
