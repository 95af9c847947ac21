"""How commands fail: the exit codes, and what each error tells the user to do."""

from enum import IntEnum
from typing import IO, Any, Final

import click

from ratus.errors import (
    BadRequest,
    Conflict,
    Draining,
    Internal,
    NotFound,
    RatusError,
    TooLarge,
    TooMany,
    Unavailable,
)

_UNREACHABLE: Final = "service unavailable: the server cannot be reached"  # as opposed to what the server itself lacks


class Exit(IntEnum):
    """What a command ends with; part of the contract with scripts."""

    OK = 0
    ERROR = 1  # anything else
    USAGE = 2  # the command line, or what the server says is malformed or too large
    NOT_FOUND = 3  # no such task, topic or promise; nothing to claim
    CONFLICT = 4  # the task exists, is not pending, or has another nonce
    UNAVAILABLE = 5  # no server, no storage, too many others: try again
    INTERRUPTED = 130


class Failure(click.ClickException):
    """The one line that says what went wrong, and the exit code."""

    def __init__(self, message: str, code: Exit = Exit.ERROR) -> None:
        super().__init__(message)
        self.exit_code = code.value  # type: ignore[misc]  # click means it to be one of the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it, as all of Ratus does."""
        click.echo(f"ratus: {self.format_message()}", file=file, err=file is None)


def exit_code(error: RatusError) -> Exit:
    """What a command ends with that fails with this error."""
    match error:
        case BadRequest() | TooLarge():
            return Exit.USAGE
        case NotFound():
            return Exit.NOT_FOUND
        case Conflict():
            return Exit.CONFLICT
        case Unavailable() | TooMany():
            return Exit.UNAVAILABLE
    return Exit.ERROR


def failure(error: RatusError, target: str) -> Failure:
    """What the user sees of an error of a call to this target."""
    code, details = _grpc_status(error.__cause__)
    match error:
        case Draining():
            text = f"{target} shuts down: try again in a moment, or elsewhere"
        case Unavailable() if str(error).startswith(_UNREACHABLE):
            text = _unreachable(target, details)
        case Internal() if code == "UNIMPLEMENTED":
            text = f"{target} does not know this call: is it a gRPC port of Ratus, and as new as this command?"
        case Internal() if code and code != "INTERNAL":
            text = f"{target} gives an answer that is not from Ratus ({code}: {details}): is it the gRPC port?"
        case Internal():
            text = f"{error} at {target}: its log has the details"
        case NotFound() if not error.detail:
            text = "not found: there is no such task, or no promise on it"
        case _:
            text = str(error)
    return Failure(text, exit_code(error))


def _grpc_status(cause: BaseException | None) -> tuple[str, str]:
    """Code and details of the failed call, if it is what has caused the error."""
    code, details = getattr(cause, "code", None), getattr(cause, "details", None)
    if not callable(code) or not callable(details):
        return "", ""
    return getattr(code(), "name", ""), str(details() or "")


def _unreachable(target: str, details: str) -> str:
    if "http1" in details or "HTTP/2" in details:
        return f"{target} does not speak gRPC: is it the port of REST? `ratus serve` has gRPC on 50051 by default"
    if "handshake" in details.lower() or "ssl" in details.lower():
        return f"{target} and this command do not agree on TLS: check --tls, --ca, --cert and --key ({_short(details)})"
    if "DNS" in details or "resol" in details:
        return f"cannot find {target}: is the name right? ({_short(details)})"
    return f"cannot reach {target}: is `ratus serve` running there? Another place is named by --target or RATUS_TARGET"


def _short(details: str) -> str:
    text = " ".join(details.split())
    return text if len(text) <= 200 else f"{text[:200]}…"
