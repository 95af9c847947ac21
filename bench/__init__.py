"""Measures our paths, their floors, and other queues at the same work: `make bench`, `python -m bench --help`."""
