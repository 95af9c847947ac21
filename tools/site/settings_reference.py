"""The reference of the settings of the two servers, made from the command line itself."""

import click

from ratus.cli import cli

INTRODUCTION = """# Settings

Every option of `ratus serve` and `ratus gateway` has an environment variable; the option wins. Durations are
written as in Go: `1h30m`, `300ms`. Of a repeated option the last counts. The other commands are told
[on a page of their own](cli.md).

A start that cannot work (a port that is taken, a file that is no queue or that another process serves) prints one
line and exits with a status other than 0. A MongoDB that is down is no such case: the server says that it is not
ready, and works as soon as the database is there.
"""


def page() -> str:
    """The page, in Markdown."""
    return INTRODUCTION + "".join(_command(name) for name in ("serve", "gateway"))


def _command(name: str) -> str:
    context = click.Context(cli, info_name="ratus")
    command = cli.get_command(context, name)
    if command is None:
        raise LookupError(name)
    inner = click.Context(command, info_name=name, parent=context)
    rows = [_row(option, inner) for option in command.params if isinstance(option, click.Option)]
    head = "| option | environment | default | |\n| --- | --- | --- | --- |\n"
    return f"\n## ratus {name}\n\n{command.get_short_help_str(200)}\n\n{head}" + "".join(rows)


def _row(option: click.Option, context: click.Context) -> str:
    default = ""
    if not option.is_flag and option.default is not None and not option.required:
        default = f"`{option.show_default if isinstance(option.show_default, str) else option.default}`"
    choices = (
        f" One of {', '.join(f'`{choice}`' for choice in option.type.choices)}."
        if isinstance(option.type, click.Choice)
        else ""
    )
    return f"| `{option.opts[0]}` | `{option.envvar}` | {default} | {option.help or ''}{choices} |\n"
