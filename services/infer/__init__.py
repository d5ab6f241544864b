"""Sound to frame batches: the renderers and the warm avatars. No ffmpeg, no sessions."""
