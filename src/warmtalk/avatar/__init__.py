"""Avatar builder: turns a video, a photo or a MuseTalk avatar into an avatar bundle on disk."""
