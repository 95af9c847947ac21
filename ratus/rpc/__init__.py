"""The gRPC face: server, client, conversions."""
