"""Types of parameters: durations, times and states as Ratus writes them everywhere, and payloads."""

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ratus import times
from ratus.errors import BadRequest
from ratus.model import TaskState


class Duration(click.ParamType[timedelta]):
    """A Go duration such as `1h30m`."""

    name = "duration"

    def __init__(self, *, signed: bool = False) -> None:
        self._signed = signed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The duration that a text says."""
        if isinstance(value, timedelta):
            return value
        try:
            duration = times.parse_duration(value)
        except BadRequest as error:
            self.fail(f"{error.description}; write it as 10s, 1h30m or 300ms", param, ctx)
        if duration < timedelta(0) and not self._signed:
            self.fail("must not be negative", param, ctx)
        return duration


class Time(click.ParamType[datetime]):
    """A time in the form of RFC 3339."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that a text says."""
        if isinstance(value, datetime):
            return value
        try:
            return times.parse_time(value)
        except BadRequest as error:
            self.fail(f"{error.description}; write it as 2030-01-31T12:00:00Z", param, ctx)


DURATION: Final = Duration()
SIGNED_DURATION: Final = Duration(signed=True)
TIME: Final = Time()
STATE: Final = click.Choice([state.name.lower() for state in TaskState], case_sensitive=False)


def state_number(name: str | None) -> int | None:
    """The number of a state that was chosen by its name."""
    return None if name is None else TaskState[name.upper()].value


def state_name(number: int) -> str:
    """The name of a state, or its number if it is none of ours."""
    return TaskState(number).name.lower() if number in set(TaskState) else str(number)


def read_payload(given: str | None, *, is_text: bool) -> bytes | None:
    """The JSON that an argument says: it, the file that it names with @, or stdin for -. With `is_text`, any text."""
    if given is None:
        return None
    if given == "-":
        content = sys.stdin.buffer.read()
    elif given.startswith("@"):
        try:
            content = Path(given[1:]).read_bytes()
        except OSError as error:
            raise click.UsageError(f"cannot read {given[1:]}: {error.strerror}") from None
    else:
        content = given.encode(errors="surrogateescape")
    if not is_text:
        return _checked(content)
    try:
        return msgspec.json.encode(content.decode())
    except UnicodeDecodeError:
        raise click.UsageError("the text of the payload is not UTF-8") from None


def _checked(content: bytes) -> bytes:
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"the payload is not JSON ({error}): quote a text as '\"…\"', or say --text"
        raise click.UsageError(text) from None
    return content
