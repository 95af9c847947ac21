"""What a client and a server know each other by."""

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TLS:
    """How a client and a server know each other: PEM texts, or paths of PEM files.

    Without `root_certificates` those that gRPC comes with are trusted. `certificate` and `key` are the client's own,
    for servers that ask for one. `server_name` is the name in the server's certificate, where it is not that of the
    target.
    """

    root_certificates: str | Path | bytes | None = None
    certificate: str | Path | bytes | None = None
    key: str | Path | bytes | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of it; OSError for a file that cannot be read."""
        return grpc.ssl_channel_credentials(_pem(self.root_certificates), _pem(self.key), _pem(self.certificate))


def _pem(given: str | Path | bytes | None) -> bytes | None:
    return given if given is None or isinstance(given, bytes) else Path(given).read_bytes()
