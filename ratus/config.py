"""Settings: small frozen objects, each for the part that reads it."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

MIB: Final = 1024 * 1024

DEFAULT_TIMEOUT: Final = timedelta(minutes=10)  # of a promise
MAX_NAME_BYTES: Final = 1024  # of an ID, a topic, a nonce, a producer or a consumer
MAX_BATCH: Final = 10_000  # entries
MAX_CLAIM: Final = 1_000  # tasks
MAX_IN_FLIGHT: Final = 10_000  # tasks
MAX_WAIT: Final = timedelta(minutes=10)
DEFAULT_HEARTBEAT: Final = timedelta(seconds=15)
MIN_HEARTBEAT: Final = timedelta(seconds=1)
MAX_HEARTBEAT: Final = timedelta(minutes=5)
MAX_REQUEST_BYTES: Final = 32 * MIB
MAX_ANSWER_BYTES: Final = 7 * MIB // 2  # of many tasks, so that clients with default limits can read it
RETENTION: Final = timedelta(hours=72)
GRACE: Final = 10.0  # seconds that calls under way get when the server drains


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients may send."""

    page_limit: int = 100
    page_offset: int = 10_000
    payload_bytes: int = MIB


@dataclass(frozen=True, slots=True)
class ChoreSettings:
    """When the background jobs run; an interval of zero turns recovery off in this process."""

    interval: timedelta = timedelta(seconds=10)
    initial_delay: timedelta = timedelta(0)
    initial_random: bool = False


@dataclass(frozen=True, slots=True)
class SQLiteSettings:
    """Where the SQLite engine keeps its file; no path means in memory."""

    path: str | None = "ratus.db"
    retention: timedelta = RETENTION


@dataclass(frozen=True, slots=True)
class MongoDBSettings:
    """How the MongoDB engine finds and uses its collection."""

    uri: str = "mongodb://127.0.0.1:27017"
    database: str = "ratus"
    collection: str = "tasks"
    retention: timedelta = RETENTION
    disable_index_creation: bool = False
    disable_auto_fallback: bool = False
    disable_atomic_poll: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a face listens, alone or beside other processes that share the port; port 0 turns it off."""

    host: str = "127.0.0.1"
    port: int = 0
    shared: bool = False

    @property
    def address(self) -> str:
        """Host and port, as URLs have them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """Files in PEM that a server shows; with `client_ca` it wants client certificates that these CAs have signed."""

    cert: str
    key: str
    client_ca: str | None = None


@dataclass(frozen=True, slots=True)
class TargetTLS:
    """How to reach a server with TLS: files in PEM of the CAs to trust (public ones if not given) and of a client."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """All settings of `ratus serve`."""

    rest: Listen = Listen(port=8000)
    grpc: Listen = Listen(port=50051)
    workers: int = 1
    engine: str = "sqlite"
    sqlite: SQLiteSettings = SQLiteSettings()
    mongodb: MongoDBSettings = MongoDBSettings()
    chores: ChoreSettings = ChoreSettings()
    limits: Limits = field(default_factory=Limits)
    tls: TLSSettings | None = None


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """All settings of `ratus gateway`; without `target_tls` the target is reached in plain text."""

    target: str
    rest: Listen = Listen(port=8000)
    tls: TLSSettings | None = None
    target_tls: TargetTLS | None = None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged and how; with several processes every line names its own."""

    level: str = "info"
    form: str = "text"
    process: bool = False
