"""Face detection and measurement, frame by frame, on a source video or photo."""
