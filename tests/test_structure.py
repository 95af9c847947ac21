"""What outsiders may rely on: what is exported, and that every error is described."""

import inspect
import subprocess
import sys

import gateway
import ratus
import ratus.engines.sqlite
from ratus import errors


def test_what_is_exported() -> None:
    assert sorted(name for name in ratus.__all__ if name[0].islower()) == [
        "connect",
        "connect_sync",
        "decode",
        "new_task",
        "task_id",
    ]
    assert len({id(getattr(ratus, name)) for name in ratus.__all__}) == len(ratus.__all__)
    assert dir(ratus) == sorted(ratus.__all__)
    assert ratus.engines.sqlite.__all__ == ["SQLiteEngine"]
    assert gateway.__all__ == ["create_app"]


def test_a_server_does_not_carry_the_client() -> None:
    program = "import ratus, sys; print([m for m in sys.modules if m.startswith(('grpc', 'ratus.', 'msgspec'))])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_every_error_stands_in_the_tree() -> None:
    tree = inspect.getdoc(errors) or ""
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.RatusError)]
    assert len(classes) > 10
    for cls in classes:
        assert cls.__name__ in tree
