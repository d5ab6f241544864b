"""What every gRPC server and client here shares: errors, options, life cycle, conversion."""
