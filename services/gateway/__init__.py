"""HTTP gateway: REST, live video and the talk page. A gRPC client of the other services, without media code."""
