"""Infer service: turns audio into batches of rendered frames. Holds the renderers and the loaded avatars. Runs neither
ffmpeg nor voices and knows no sessions."""
