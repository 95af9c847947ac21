"""Timestamps and durations of protobuf, without floats.

What is written is a dict of the fields, which a message takes in place of the submessage; building the submessage
first would cost half a microsecond more.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ratus.errors import BadRequest
from ratus.times import EPOCH, MILLISECOND, from_unix

MAX_SECONDS: Final = 315_576_000_000  # of a Duration: 10,000 years

_MICROSECOND: Final = timedelta(microseconds=1)


def write_time(moment: datetime | None) -> Any:
    """The Timestamp of a moment; None for none."""
    if moment is None:
        return None
    since = moment - EPOCH
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1000}


def read_time(stamp: Timestamp, field: str) -> datetime:
    """The moment of a Timestamp, rounded up to a millisecond; BadRequest outside of the years 1 to 9999."""
    return from_unix(stamp.seconds, stamp.nanos, field)


def write_duration(duration: timedelta | None) -> Any:
    """The Duration of a `timedelta`; None for none."""
    if duration is None:
        return None
    seconds, microseconds = divmod(abs(duration) // _MICROSECOND, 1_000_000)
    sign = -1 if duration.days < 0 else 1
    return {"seconds": sign * seconds, "nanos": sign * microseconds * 1000}


def read_duration(duration: Duration, field: str) -> timedelta:
    """The `timedelta` of a Duration, rounded up to a millisecond; BadRequest if it is not a valid one."""
    seconds, nanos = duration.seconds, duration.nanos
    if not (-MAX_SECONDS <= seconds <= MAX_SECONDS and -(10**9) < nanos < 10**9):
        raise BadRequest(f"duration out of range: {seconds} s and {nanos} ns", field=field)
    if seconds * nanos < 0:
        raise BadRequest(f"duration with different signs: {seconds} s and {nanos} ns", field=field)
    return (seconds * 1000 - (-nanos // 10**6)) * MILLISECOND
