"""Generators of load and bare servers, each a process of its own that prints what it measured."""
