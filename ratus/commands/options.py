"""Options that many commands have: where the server is, and in which form to answer."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from ratus.commands.connection import Client

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DEFAULT_TARGET: Final = "127.0.0.1:50051"

# What gRPC would log, our errors say; and it must not mind that `ratus work` starts processes.
QUIET: Final = {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}


@dataclass(frozen=True, slots=True)
class Server:
    """Where a command finds its server, and how it makes itself known there."""

    target: str = DEFAULT_TARGET
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Do what needs the server; Failure."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)  # before gRPC is loaded
        from ratus.commands import connection

        return connection.run(self, work)


class _Metadata(click.ParamType[tuple[str, str]]):
    name = "key=value"
    envvar_list_splitter = "\n"  # values have spaces

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail("write it as KEY=VALUE", param, ctx)
        return key.strip().lower(), text


def remote(command: F) -> F:
    """The options that say where the server is; the command gets them as `server`."""

    @functools.wraps(command)
    def with_server(**given: Any) -> Any:
        names = ("target", "tls", "ca", "cert", "key", "metadata")
        server = Server(**{name: given.pop(name) for name in names})
        if bool(server.cert) != bool(server.key):
            raise click.UsageError("--cert and --key belong together")
        return command(server=server, **given)

    file = click.Path(exists=True, dir_okay=False)
    options: tuple[tuple[str, dict[str, Any]], ...] = (
        ("--metadata", {"type": _Metadata(), "multiple": True, "help": "Sent with every call; can be repeated."}),
        ("--key", {"type": file, "help": "Private key of --cert, a PEM file."}),
        ("--cert", {"type": file, "help": "Certificate of this client, a PEM file."}),
        ("--ca", {"type": file, "help": "Certificates that sign the server's, a PEM file; implies --tls."}),
        ("--tls", {"is_flag": True, "help": "Use TLS, with the certificates that gRPC trusts."}),
        ("--target", {"default": DEFAULT_TARGET, "show_default": True, "help": "The gRPC server, as HOST:PORT."}),
    )
    decorated: Any = with_server
    for name, more in options:
        variable = f"RATUS_{name.removeprefix('--').upper()}"
        decorated = click.option(name, envvar=variable, show_envvar=True, **more)(decorated)
    return decorated  # type: ignore[no-any-return]  # as decorators of click do


def printed(command: F) -> F:
    """The option that chooses the form of the answer; the command gets it as `out`."""

    @functools.wraps(command)
    def with_output(*, as_json: bool, **given: Any) -> Any:
        from ratus.commands.output import Output

        return command(out=Output(as_json=as_json), **given)

    option = click.option("--json", "as_json", is_flag=True, help="JSON even on a terminal, as when piped.")
    return option(with_output)  # type: ignore[return-value]  # it takes the options of the command too
