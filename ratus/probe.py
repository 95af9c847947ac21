"""Asks the server on this machine whether it can serve, for health checks: `python -m ratus.probe [PATH]`.

It finds the REST face by the environment variables that `ratus serve` has its settings from, asks for /readyz unless
told another path, and ends with status 0 if the answer is 200, else with 1 and one line that says why. Where clients
need a certificate it shows that in PROBE_CERT and PROBE_KEY, or else the server's own. It imports nothing that takes
time, as it runs every few seconds.
"""

import http.client
import os
import ssl
import sys
from collections.abc import Mapping
from typing import Final

TIMEOUT: Final = 4.0  # seconds


def ask(path: str, env: Mapping[str, str]) -> int:
    """The status of the answer; OSError or HTTPException if there is none."""
    host = env.get("BIND", "")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (not to listen on)
    port = int(env.get("PORT") or 8000)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    if env.get("TLS_CERT"):
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=_context(env))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _context(env: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False  # it asks this machine, by an address that no certificate has to name
    context.verify_mode = ssl.CERT_NONE
    if env.get("TLS_CLIENT_CA"):
        context.load_cert_chain(env.get("PROBE_CERT") or env["TLS_CERT"], env.get("PROBE_KEY") or env["TLS_KEY"])
    return context


def main(path: str = "/readyz") -> None:
    """Ask, and end the process."""
    try:
        status = ask(path, os.environ)
    except (OSError, http.client.HTTPException, ValueError) as error:
        sys.exit(f"{path}: {error}")
    if status != http.client.OK:
        sys.exit(f"{path}: {status}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
