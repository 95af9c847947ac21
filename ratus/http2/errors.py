"""What goes wrong between the two ends."""

from ratus.http2.frames import Code


class StreamClosed(Exception):
    """The stream has ended before this could be sent, or before the client had said all."""


class Fault(Exception):
    """The client does what the protocol does not allow."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


class ConnectionFault(Fault):
    """Ends the connection."""


class StreamFault(Fault):
    """Ends the stream, and nothing else."""
