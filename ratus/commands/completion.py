"""`ratus completion`."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print the completion of a shell.

    It is a script that completes commands and options.

    \b
    Examples:
      echo 'eval "$(ratus completion bash)"' >> ~/.bashrc
      echo 'eval "$(ratus completion zsh)"' >> ~/.zshrc
      ratus completion fish > ~/.config/fish/completions/ratus.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None
    root = click.get_current_context().find_root()
    click.echo(completion(root.command, {}, "ratus", "_RATUS_COMPLETE").source())
