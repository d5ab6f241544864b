"""The embedded speech encoder: audio to mouth shapes, by a small network in numpy."""
