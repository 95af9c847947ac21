"""The command line. Every option has an environment variable of the same name in capitals."""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import click

import ratus
from ratus import logs, supervisor, times
from ratus.commands.failures import Exit
from ratus.commands.group import LazyGroup
from ratus.commands.parameters import DURATION
from ratus.config import (
    ChoreSettings,
    GatewaySettings,
    Limits,
    Listen,
    LogSettings,
    MongoDBSettings,
    ServeSettings,
    SQLiteSettings,
    TargetTLS,
    TLSSettings,
)
from ratus.errors import StartError

F = TypeVar("F", bound=Callable[..., Any])

ENGINES: Final = ("sqlite", "mongodb", "memory", "memdb")
_DEFAULTS: Final = ServeSettings()


COMMANDS: Final = {
    name: f"ratus.commands.{module}"
    for name, module in (
        ("push", "push"),
        ("claim", "claim"),
        ("commit", "commit"),
        ("work", "work"),
        ("topics", "topics"),
        ("tasks", "tasks"),
        ("promises", "promises"),
        ("delete", "delete"),
        ("watch", "watch"),
        ("import", "importing"),
        ("export", "exporting"),
        ("backup", "backup"),
        ("doctor", "doctor"),
        ("completion", "completion"),
    )
}
EPILOG: Final = """Exit codes: 0 done; 1 failed; 2 wrong usage, or refused as malformed; 3 not found, or nothing due;
4 conflict; 5 unavailable, try again; 130 interrupted."""
PORT: Final = click.IntRange(0, 65535)


def _option(name: str, default: Any, text: str, **more: Any) -> Callable[[F], F]:
    """An option with its environment variable; durations have their default shown as one would write it."""
    shown: Any = True
    if isinstance(default, timedelta):
        more["type"], shown = DURATION, times.format_duration(default)
    return click.option(
        f"--{name}",
        default=default,
        show_default=shown if default is not False else False,
        envvar=name.replace("-", "_").upper(),
        show_envvar=True,
        help=text,
        **more,
    )


def _file(name: str, text: str) -> Callable[[F], F]:
    return _option(name, None, text, type=click.Path(dir_okay=False))


def _flag(name: str, text: str) -> Callable[[F], F]:
    return _option(name, False, text, is_flag=True)


def _common(command: F) -> F:
    """The options of both servers."""
    for option in (
        _option("log-format", "text", "Form of the log.", type=click.Choice(("text", "json"))),
        _option(
            "log-level", "info", "Log from this level on.", type=click.Choice(("debug", "info", "warning", "error"))
        ),
        _file("tls-client-ca", "CAs in PEM; clients must then have a certificate that one of them has signed."),
        _file("tls-key", "Key of the certificate, in PEM."),
        _file("tls-cert", "Certificate chain in PEM; serve with TLS. Renewed files are noticed while it serves."),
        _option("bind", _DEFAULTS.rest.host, "Address to listen on; 0.0.0.0 for all."),
    ):
        command = option(command)
    return command


def _tls(given: dict[str, Any]) -> TLSSettings | None:
    cert, key, client_ca = given["tls_cert"], given["tls_key"], given["tls_client_ca"]
    if cert and key:
        return TLSSettings(cert, key, client_ca)
    if cert or key or client_ca:
        raise click.UsageError("TLS needs both --tls-cert and --tls-key", click.get_current_context())
    return None


def _target_tls(given: dict[str, Any]) -> TargetTLS | None:
    ca, cert, key = given["target_ca"], given["target_cert"], given["target_key"]
    if bool(cert) != bool(key):
        raise click.UsageError("--target-cert and --target-key go together", click.get_current_context())
    return TargetTLS(ca, cert, key) if given["target_tls"] or ca or cert else None


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(ratus.__version__, prog_name="ratus", message="%(prog)s %(version)s")
def cli() -> None:
    """Ratus, a durable task queue server.

    Producers push tasks with the time they are to run. Consumers promise to execute the next due task of a topic
    before a deadline, and acknowledge it with a commit. A task whose promise is not kept is handed out again.

    Start with `ratus serve`, and open http://127.0.0.1:8000 for the REST API. The other commands speak to a server
    over gRPC: `ratus push mail '{"to": "ada"}'`, `ratus watch`.
    """


@cli.command("serve")
@_option("port", _DEFAULTS.rest.port, "Port of the REST API; 0 turns it off.", type=PORT)
@_option("grpc-port", _DEFAULTS.grpc.port, "Port of the gRPC API; 0 turns it off.", type=PORT)
@_common
@_option("workers", _DEFAULTS.workers, "Processes that serve, on MongoDB.", type=click.IntRange(1))
@_option(
    "engine",
    _DEFAULTS.engine,
    "Where tasks are kept: in an SQLite file, in MongoDB, or in memory only (memdb means memory).",
    type=click.Choice(ENGINES),
)
@_option("sqlite-path", _DEFAULTS.sqlite.path, "The SQLite file; made when missing.", type=click.Path(dir_okay=False))
@_option("sqlite-retention-period", _DEFAULTS.sqlite.retention, "How long completed tasks are kept.")
@_option("mongodb-uri", _DEFAULTS.mongodb.uri, "Where MongoDB is.")
@_option("mongodb-database", _DEFAULTS.mongodb.database, "Database of the tasks.")
@_option("mongodb-collection", _DEFAULTS.mongodb.collection, "Collection of the tasks.")
@_option("mongodb-retention-period", _DEFAULTS.mongodb.retention, "How long completed tasks are kept.")
@_flag("mongodb-disable-index-creation", "Do not create indexes.")
@_flag("mongodb-disable-auto-fallback", "Do not switch to other operations where a sharded collection needs it.")
@_flag("mongodb-disable-atomic-poll", "Claim by reading first, as sharded collections need it.")
@_option(
    "chore-interval",
    _DEFAULTS.chores.interval,
    "Time between looks for missed deadlines; 0 turns recovery off in this process.",
)
@_option("chore-initial-delay", _DEFAULTS.chores.initial_delay, "Time before the first look.")
@_flag("chore-initial-random", "Add a random part of the interval to the time before the first look.")
@_option("pagination-max-limit", _DEFAULTS.limits.page_limit, "Most items on a page.", type=click.IntRange(1))
@_option("pagination-max-offset", _DEFAULTS.limits.page_offset, "Most items to skip.", type=click.IntRange(0))
@_option("max-payload-bytes", _DEFAULTS.limits.payload_bytes, "Largest payload as JSON.", type=click.IntRange(1))
def serve_command(**given: Any) -> None:
    """Serve the REST and gRPC APIs.

    Without options tasks are kept in the file ratus.db in this directory.

    \b
    Examples:
      ratus serve
      ratus serve --port 9000 --sqlite-path /var/lib/ratus/ratus.db
      ratus serve --engine mongodb --mongodb-uri mongodb://127.0.0.1:27017 --workers 4
      ratus serve --tls-cert server.pem --tls-key server.key --tls-client-ca clients.pem
    """
    log = LogSettings(given["log_level"], given["log_format"], process=given["workers"] > 1)
    logs.configure(log)
    engine = "memory" if given["engine"] == "memdb" else given["engine"]
    settings = ServeSettings(
        rest=Listen(given["bind"], given["port"]),
        grpc=Listen(given["bind"], given["grpc_port"]),
        workers=given["workers"],
        engine=engine,
        sqlite=SQLiteSettings(
            path=None if engine == "memory" else given["sqlite_path"], retention=given["sqlite_retention_period"]
        ),
        mongodb=MongoDBSettings(
            uri=given["mongodb_uri"],
            database=given["mongodb_database"],
            collection=given["mongodb_collection"],
            retention=given["mongodb_retention_period"],
            disable_index_creation=given["mongodb_disable_index_creation"],
            disable_auto_fallback=given["mongodb_disable_auto_fallback"],
            disable_atomic_poll=given["mongodb_disable_atomic_poll"],
        ),
        chores=ChoreSettings(
            interval=given["chore_interval"],
            initial_delay=given["chore_initial_delay"],
            initial_random=given["chore_initial_random"],
        ),
        limits=Limits(
            page_limit=given["pagination_max_limit"],
            page_offset=given["pagination_max_offset"],
            payload_bytes=given["max_payload_bytes"],
        ),
        tls=_tls(given),
    )
    if settings.workers > 1:
        sys.exit(asyncio.run(supervisor.supervise(settings, log, click.echo)))
    from ratus import app  # only here: a supervisor does without, in less than half of the memory

    app.run(app.serve(settings, click.echo))


@cli.command("gateway")
@click.option("--target", required=True, envvar="TARGET", show_envvar=True, help="The gRPC server, as HOST:PORT.")
@_option("port", _DEFAULTS.rest.port, "Port of the REST API.", type=click.IntRange(1, 65535))
@_common
@_flag("target-tls", "Reach the target with TLS; implied by the options that follow.")
@_file("target-ca", "CAs in PEM that the target's certificate is checked with, in place of the public ones.")
@_file("target-cert", "Certificate chain in PEM to show to the target.")
@_file("target-key", "Key of the certificate to show to the target, in PEM.")
def gateway_command(**given: Any) -> None:
    """Serve the REST API alone, in front of a gRPC server elsewhere.

    \b
    Examples:
      ratus gateway --target queue.internal:50051 --port 8000
      ratus gateway --target queue.internal:50051 --target-ca ca.pem
    """
    logs.configure(LogSettings(given["log_level"], given["log_format"]))
    settings = GatewaySettings(
        target=given["target"],
        rest=Listen(given["bind"], given["port"]),
        tls=_tls(given),
        target_tls=_target_tls(given),
    )
    from ratus import app

    app.run(app.serve_gateway(settings, click.echo))


def main() -> None:
    """The entry point: whatever cannot start says why in one line."""
    try:
        cli.main(prog_name="ratus", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "ratus"
        click.echo(f"ratus: {error.format_message()} (see {command} --help)".replace("\n", " "), err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"ratus: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.ERROR)
    except StartError as error:
        click.echo(f"ratus: {error}", err=True)
        sys.exit(1)
