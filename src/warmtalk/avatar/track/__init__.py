"""Per-frame table of an avatar: usable frames, smoothed landmarks and face boxes, loop range."""
