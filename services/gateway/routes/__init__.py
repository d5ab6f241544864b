"""Routes by resource. Each `add` call states access and body limit of the route; see `route_policy`."""
