"""gRPC helpers shared by servers and clients: errors, channel options, authentication, life cycle, conversion."""
