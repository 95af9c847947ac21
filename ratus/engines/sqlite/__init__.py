"""The SQLite engine: one file, one connection that writes in a thread of its own, group commit."""

from ratus.engines.sqlite.engine import SQLiteEngine

__all__ = ["SQLiteEngine"]
