"""Idle motion of a photo: breathing, sway and blinks."""
