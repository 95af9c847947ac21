"""On what it is measured: date, machine, versions."""

import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import apsw

from bench.contenders import Missing
from bench.services import find, postgresql_program
from tests.mongod import MissingMongod, find_mongod

PACKAGES: Final = ("grpcio", "protobuf", "uvicorn", "apsw", "pymongo", "nats-py", "asyncpg", "pgqueuer", "celery", "rq")


def about() -> dict[str, str]:
    """Lines to be told with the figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) / 2**20
    processors = f"{len(models)} × {models[0] if models else platform.machine()}"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processors}, {memory:.0f} GiB, {platform.system()} {platform.release()}",
        "servers": ", ".join(_servers()),
        "packages": ", ".join([f"Python {platform.python_version()}", *_packages()]),
    }


def _packages() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue  # its peer is reported as failed, if it is measured at all
    return found


def _servers() -> list[str]:
    """The versions of the servers that are installed."""
    programs = {
        "MongoDB": lambda: (find_mongod(), "--version"),
        "beanstalkd": lambda: (find("beanstalkd", ""), "-v"),
        "NATS": lambda: (find("nats-server", ""), "--version"),
        "Redis": lambda: (find("redis-server", ""), "--version"),
        "PostgreSQL": lambda: (postgresql_program("postgres"), "--version"),
    }
    found = [f"SQLite {apsw.sqlite_lib_version()}"]
    for name, command in programs.items():
        try:
            told = subprocess.run([str(word) for word in command()], capture_output=True, text=True).stdout
        except (Missing, MissingMongod):
            continue  # its rows say so
        if number := re.search(r"\d+(\.\d+)+", told):
            found.append(f"{name} {number[0]}")
    return found
