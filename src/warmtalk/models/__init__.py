"""Networks and renderers behind the ports of the core."""
