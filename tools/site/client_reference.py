"""The reference of the Python client: all that `ratus` exports, from the docstrings."""

import inspect

import ratus

INTRODUCTION = """# Python client, all of it

Everything that `ratus` exports, made from its docstrings. [The Python client](client.md) explains it; the names
that begin with `Sync` are those for code without `async`, and read alike.

A `ratus.Duration` is a text as Go writes it (`"30s"`, `"1h30m"`), a `timedelta`, or a number of seconds.
"""
KINDS = ("Functions", "Clients", "The model", "Errors")


def page() -> str:
    """The page, in Markdown."""
    groups: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in ratus.__all__:
        value = getattr(ratus, name)
        if inspect.isfunction(value):
            groups["Functions"].append(_directive("autofunction", name))
        elif isinstance(value, type) and issubclass(value, Exception):
            groups["Errors"].append(_directive("autoexception", name, ":show-inheritance:"))
        elif isinstance(value, type):
            kind = "Clients" if value.__module__.startswith(("ratus.client", "ratus.rpc")) else "The model"
            groups[kind].append(
                _directive("autoclass", name, ":members:", ":inherited-members: Struct, IntEnum, int, dict")
            )
    return INTRODUCTION + "".join(f"\n## {kind}\n\n{''.join(parts)}" for kind, parts in groups.items())


def _directive(kind: str, name: str, *options: str) -> str:
    lines = [f".. {kind}:: ratus.{name}", *(f"   {option}" for option in options)]
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```\n\n"
