"""HTTP/2 for servers, as RFC 9113 has it: connections, streams and their windows. It knows nothing of gRPC."""
