"""Live streams of the gateway: one Converse call per session, broadcast to any number of viewers."""
