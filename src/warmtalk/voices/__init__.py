"""Text to speech: implementations of the port Voice, and their registry."""
