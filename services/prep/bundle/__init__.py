"""What is written: avatars built from a source, taken over from MuseTalk, or of one frame to compare."""
