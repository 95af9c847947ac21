"""The SQLite engine: one file, one connection that writes, beside the event loop, group commit."""

from ratus.engines.sqlite.engine import SQLiteEngine

__all__ = ["SQLiteEngine"]
