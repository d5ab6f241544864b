"""A photo becomes a source: it breathes, sways and blinks."""
