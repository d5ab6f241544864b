"""ffmpeg lives here and nowhere else, always as a child process without a shell."""
