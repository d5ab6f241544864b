"""What is seen in a source, frame by frame, and what is said about it."""
