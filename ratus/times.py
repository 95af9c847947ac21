"""Times and durations: UTC, whole milliseconds, and the text forms of Go and RFC 3339.

What comes in finer than a millisecond is rounded up and the server's own now is rounded down, so that
nothing is ever early. Durations are `timedelta` of whole milliseconds.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Final

from ratus.errors import BadRequest

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
MAX_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, micro sign
    "μs": 10**3,  # U+03BC, Greek letter mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MAX_DURATION: Final = 2**63 - 1  # nanoseconds, the range of a Go duration
_TERM: Final = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII)


def now() -> datetime:
    """The clock of this process, rounded down to a millisecond."""
    return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)  # three times faster than to replace


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch, rounded up."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 - (-since.microseconds // 1000)


def from_ms(milliseconds: int) -> datetime:
    """The moment so many milliseconds after the epoch; OverflowError outside of the years 1 to 9999."""
    return EPOCH + timedelta(0, 0, 0, milliseconds)  # by position, which is faster than by keyword


def from_unix(seconds: int, nanoseconds: int, field: str = "") -> datetime:
    """The moment of a protobuf timestamp, rounded up; BadRequest outside of the years 1 to 9999."""
    if not 0 <= nanoseconds < 10**9:
        raise BadRequest(f"nanos out of range: {nanoseconds}", field=field)
    try:
        return EPOCH + timedelta(0, seconds, 0, -(-nanoseconds // 10**6))
    except OverflowError:
        raise BadRequest("time is not within the years 1 to 9999", field=field) from None


def parse_time(text: str, field: str = "") -> datetime:
    """Parse an RFC 3339 time and round it up; BadRequest if it is malformed or not within the years 1 to 9999."""
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        base, fraction, zone = match.groups()
        moment = datetime.fromisoformat(base + ("+00:00" if zone == "Z" else zone)).astimezone(UTC)
        if fraction:
            moment += -(-int(fraction) * 1000 // 10 ** len(fraction)) * MILLISECOND
    except (ValueError, OverflowError):
        raise BadRequest(f"{text[:100]!r} is not an RFC 3339 time", field=field) from None
    return moment


@lru_cache(maxsize=1024)  # claims repeat a few timeouts
def parse_duration(text: str, field: str = "") -> timedelta:
    """Parse a Go duration such as `1h30m`, `300ms` or `-1.5s` and round it up to a millisecond.

    Follows the grammar and the wording of errors of Go's time.ParseDuration; raises BadRequest.
    """
    return -(-_nanoseconds(text, field) // 10**6) * MILLISECOND


def _nanoseconds(text: str, field: str) -> int:
    quoted = '"' + text[:100].replace("\\", "\\\\").replace('"', '\\"') + '"'
    invalid = BadRequest(f"time: invalid duration {quoted}", field=field, bare=True)
    sign, rest = (-1 if text[:1] == "-" else 1), (text[1:] if text[:1] in ("-", "+") else text)
    if rest == "0":
        return 0
    if not rest or len(rest) > 1000:
        raise invalid
    total, position = Fraction(0), 0
    while position < len(rest):
        match = _TERM.match(rest, position)
        assert match is not None  # every part of the pattern may be empty
        whole, fraction, unit = match.groups()
        digits = fraction[1:] if fraction else ""
        if not whole and not digits:
            raise invalid
        if not unit:
            raise BadRequest(f"time: missing unit in duration {quoted}", field=field, bare=True)
        if unit not in _NANOSECONDS:
            raise BadRequest(f'time: unknown unit "{unit[:20]}" in duration {quoted}', field=field, bare=True)
        total += Fraction(int((whole or "0") + digits) * _NANOSECONDS[unit], 10 ** len(digits))
        position = match.end()
    nanoseconds = sign * int(total)
    if abs(nanoseconds) > _MAX_DURATION:
        raise invalid
    return nanoseconds


def format_duration(duration: timedelta) -> str:
    """The Go form of a duration, such as `1h30m0s` or `300ms`."""
    milliseconds = duration // MILLISECOND
    sign, milliseconds = ("-" if milliseconds < 0 else ""), abs(milliseconds)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{sign}{milliseconds}ms"
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{milliseconds:03}".rstrip("0").rstrip(".")
    text = f"{seconds}{fraction}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def after(moment: datetime, duration: timedelta, field: str = "") -> datetime:
    """The moment a duration later; BadRequest if that is not within the years 1 to 9999."""
    try:
        return moment + duration
    except OverflowError:
        raise BadRequest("runs past the year 9999", field=field) from None
