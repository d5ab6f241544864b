"""Text to PCM, behind the Voice port of the core."""
