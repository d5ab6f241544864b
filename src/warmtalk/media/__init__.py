"""The only place that runs ffmpeg, always as a child process without a shell; and codecs of PyAV and OpenCV."""
