"""Session service: voices, clips, conversations and live streams. Holds no models; infer renders the faces."""
