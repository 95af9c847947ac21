"""One of several processes that share both ports; `ratus.supervisor` starts it."""

import contextlib
import os
import sys
from pathlib import Path

from ratus import app, logs
from ratus.errors import StartError
from ratus.metrics import SharedRegistry
from ratus.orders import Order, Report


def main() -> None:
    """Carry out the order on standard input until that ends; the exit status says whether it could be."""
    supervisor = os.getppid()
    line = sys.stdin.buffer.readline()
    if not line:  # the supervisor has changed its mind or is gone
        return
    order = Order.parse(line)
    reports = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no report

    def report(it: Report) -> None:
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone
            os.write(reports, it.line())

    logs.configure(order.log)
    registry = SharedRegistry(order.metrics, order.number)
    try:
        app.run(
            app.serve(
                order.settings,
                lambda line: report(Report(serves=line)),
                registry=registry,
                lifeline=sys.stdin.fileno(),
            )
        )
    except StartError as error:
        report(Report(failure=str(error)))
        sys.exit(1)
    finally:
        if os.getppid() != supervisor:
            _clear(Path(order.metrics), order.number)


def _clear(directory: Path, number: int) -> None:
    """Remove the metrics of this worker, and the directory with the last one, as nobody else is left to do it."""
    for file in directory.glob(f"*_{number}.db"):
        file.unlink()
    with contextlib.suppress(OSError):  # not the last one
        directory.rmdir()


if __name__ == "__main__":
    main()
