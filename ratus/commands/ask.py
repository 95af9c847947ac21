"""Asking before something cannot be undone."""

import sys

import click

from ratus.commands.failures import Exit, Failure


def confirm(question: str, *, yes: bool) -> None:
    """Ask somebody at a terminal, nobody else, and not with --yes; Failure if the answer is no."""
    at_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if at_terminal and not yes and not click.confirm(question, err=True):
        raise Failure("nothing was changed", Exit.ERROR)
