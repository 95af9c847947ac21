"""Payloads: checked JSON text, the same on every engine.

Integers keep their value within signed 64 bits, which is what BSON has, and become the nearest double beyond.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from ratus.errors import BadRequest, TooLarge

MAX_DEPTH: Final = 100

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def check(text: bytes | None, max_bytes: int, field: str = "payload") -> Raw | None:
    """Decode JSON text once and give it back compact; None for none and for `null`.

    Raises BadRequest for what is not JSON in UTF-8, a number beyond a double, NUL in a key, a lone surrogate and
    nesting over 100, and TooLarge for more than `max_bytes` of compact JSON.
    """
    if not text:
        return None
    try:
        value = _decode(text)
        if value is None:
            return None
        # These need a walk in Python, so look for a sign of them first: the scans are far cheaper.
        if (
            (len(text) > MAX_DEPTH and text.count(b"[") + text.count(b"{") > MAX_DEPTH)
            or b"\\u0000" in text
            or _LONG_NUMBER.search(text) is not None
        ):
            value = _walk(value, field, 0)
    except RecursionError:
        raise BadRequest(f"nested over {MAX_DEPTH} levels", field=field) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        raise BadRequest(f"not JSON: {error}", field=field) from None
    compact = _encode(value)
    if len(compact) > max_bytes:
        raise TooLarge(f"{field} of {len(compact)} bytes exceeds the maximum of {max_bytes}")
    return Raw(compact)


def _walk(value: Any, field: str, depth: int) -> Any:
    if isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise BadRequest(f"nested over {MAX_DEPTH} levels", field=field)
        if isinstance(value, list):
            return [_walk(item, field, depth + 1) for item in value]
        for key in value:
            if "\0" in key:
                raise BadRequest("NUL in a key", field=field)
        return {key: _walk(item, field, depth + 1) for key, item in value.items()}
    if isinstance(value, int) and not _MIN_INT <= value <= _MAX_INT:
        return float(value)  # OverflowError where no double is near
    return value
