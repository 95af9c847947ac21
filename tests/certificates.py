"""Certificate authorities of our own, and certificates in files as servers and clients want them."""

import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import trustme


@dataclass(frozen=True)
class Pair:
    """The files of a certificate chain and of its key."""

    cert: Path
    key: Path


class Authority:
    """A CA in a file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA(organization_name=f"CA {secrets.token_hex(4)}")
        self.file = directory / f"ca-{secrets.token_hex(4)}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str = "") -> Pair:
        """A certificate for this machine, in files of this name or one of their own; existing files are renewed."""
        name = name or secrets.token_hex(4)
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        issued = self._ca.issue_cert("127.0.0.1", "localhost")
        pair.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(pair.key))
        return pair

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        """How an HTTP client trusts this CA, and shows a certificate."""
        context = ssl.create_default_context(cafile=str(self.file))
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context

    def credentials(self, client: Pair | None = None) -> grpc.ChannelCredentials:
        """How a gRPC client trusts this CA, and shows a certificate."""
        if client is None:
            return grpc.ssl_channel_credentials(self.file.read_bytes())
        return grpc.ssl_channel_credentials(self.file.read_bytes(), client.key.read_bytes(), client.cert.read_bytes())
