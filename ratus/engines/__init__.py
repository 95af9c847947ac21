"""Storage engines: one protocol, one folder each."""
