"""Live conversations: one video without end (see stream.py)."""
