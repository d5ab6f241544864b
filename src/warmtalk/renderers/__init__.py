"""Renderer registry: one specification for each face renderer."""
