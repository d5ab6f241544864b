"""HTTP routes of the gateway, a module for each resource."""
