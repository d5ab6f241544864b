"""Footage report and contact sheet of an avatar."""
