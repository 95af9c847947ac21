"""TLS of both faces, from files that may be renewed while the server runs."""

import asyncio
import logging
import ssl
from typing import Any, Final, NamedTuple

import grpc

from ratus.config import TargetTLS, TLSSettings
from ratus.errors import StartError

_log: Final = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 2.0  # seconds between looks at the files
PROTOCOLS: Final = ("http/1.1", "h2")  # as ALPN calls them


class _Files(NamedTuple):
    cert: bytes
    key: bytes
    client_ca: bytes | None


class _Following(ssl.SSLContext):
    """Makes each connection of an event loop with the newest context, whose sessions no other one resumes."""

    newest: ssl.SSLContext

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        return self.newest.wrap_bio(*args, **more)


class Certificates:
    """What a server shows and wants to see, as its files say; StartError if they cannot be used at first.

    While `follow` runs, new connections get what the files hold then. Files that cannot be used, such as a certificate
    whose key is not written yet, change nothing.
    """

    def __init__(self, settings: TLSSettings) -> None:
        self._settings = settings
        self._contexts = {protocol: _Following(ssl.PROTOCOL_TLS_SERVER) for protocol in PROTOCOLS}
        self._files = self._load()
        self._complaint = ""

    async def follow(self) -> None:
        """Look at the files again and again."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            await asyncio.to_thread(self._look)

    def context(self, protocol: str) -> ssl.SSLContext:
        """What makes connections that speak one of `PROTOCOLS`."""
        return self._contexts[protocol]

    def _look(self) -> None:
        try:
            if self._read() != self._files:
                self._files = self._load()
                _log.info("new connections get the certificate in %s", self._settings.cert)
            self._complaint = ""
        except StartError as error:
            if str(error) != self._complaint:
                _log.warning("the certificates stay as they were: %s", error)
            self._complaint = str(error)

    def _load(self) -> _Files:
        """The files, after contexts that were made of just these have taken the place of those before."""
        files = self._read()
        contexts = {protocol: self._made(protocol) for protocol in PROTOCOLS}
        if self._read() != files:
            raise StartError(f"{self._settings.cert} and {self._settings.key} are being written")
        for protocol, context in contexts.items():
            self._contexts[protocol].newest = context
        return files

    def _made(self, protocol: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([protocol])
        _load_chain(context, self._settings.cert, self._settings.key)
        if self._settings.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            _load_authorities(context, self._settings.client_ca)
        return context

    def _read(self) -> _Files:
        cert, key, client_ca = self._settings.cert, self._settings.key, self._settings.client_ca
        return _Files(_read(cert), _read(key), _read(client_ca) if client_ca else None)


def channel_credentials(settings: TargetTLS) -> grpc.ChannelCredentials:
    """What a gRPC client wants; StartError if the files cannot be used."""
    context = ssl.create_default_context()  # gRPC would complain only when it connects
    if settings.ca:
        _load_authorities(context, settings.ca)
    if settings.cert and settings.key:
        _load_chain(context, settings.cert, settings.key)
    ca, key, cert = (_read(path) if path else None for path in (settings.ca, settings.key, settings.cert))
    return grpc.ssl_channel_credentials(ca, key, cert)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from None


def _load_chain(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        # An encrypted key must not make OpenSSL ask for the password on the terminal.
        context.load_cert_chain(cert, key, password="")
    except OSError as error:
        raise StartError(f"cannot use the certificate {cert} with the key {key}: {_why(error)}") from None


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise StartError(f"cannot use the certificate authorities {path}: {_why(error)}") from None


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.lower().replace("_", " ") if error.reason else "not in the PEM format, or encrypted"
    return error.strerror or str(error)
