"""Published weights: file locations, download, and loading into networks."""
