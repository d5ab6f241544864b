"""The services: gRPC and HTTP adapters around the library."""
