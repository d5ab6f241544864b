"""Live streams of the gateway: one Converse call broadcast to many viewers."""
