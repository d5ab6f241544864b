"""Voices, clips and conversations. Holds no models: faces come from the infer service."""
