"""The MongoDB engine: the documents and indexes of the original Ratus, written in batches."""

from ratus.engines.mongodb.engine import MongoDBEngine

__all__ = ["MongoDBEngine"]
