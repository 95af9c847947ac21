"""The worker in C++, compiled once and kept in .cache for as long as nothing of it has changed."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples" / "cpp"
CACHE = ROOT / ".cache" / "example-cpp"
TOOLS = ("make", "g++", "pkg-config", "protoc", "grpc_cpp_plugin")
PACKAGES = "g++ make pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc"


def _missing() -> list[str]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not missing and subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"]).returncode:
        missing.append("libgrpc++-dev or libprotobuf-dev")
    return missing


def need_compiler() -> None:
    """Skip the test where the worker cannot be compiled, but fail it in CI."""
    if missing := _missing():
        message = f"no {', '.join(missing)}: install the Debian packages {PACKAGES}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(f"NOT TESTED in C++: {message}")


@contextmanager
def _locked() -> Iterator[None]:
    """Keep other test runs out meanwhile."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compiled_worker() -> Path:
    """The program."""
    need_compiler()
    sources = [SOURCE / "Makefile", SOURCE / "worker.cpp", *sorted((ROOT / "proto" / "ratus" / "v1").glob("*.proto"))]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    with _locked():
        stamp = CACHE / "digest"
        if not stamp.exists() or stamp.read_text() != digest:
            command = ["make", "--silent", "-j2", f"BUILD={CACHE / 'build'}"]
            command += [f"GOOGLEAPIS={sysconfig.get_path('purelib')}", "CXXFLAGS=-O1 -Wall -Wextra -Werror"]
            subprocess.run(command, cwd=SOURCE, check=True, timeout=600)
            stamp.write_text(digest)
    return CACHE / "build" / "worker"
