"""The commands for people and scripts, which speak to a gRPC server.

`ratus --help` lists all of them, so their modules must load fast: what takes its time (gRPC, rich) is loaded once a
command runs.
"""
