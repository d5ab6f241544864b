"""What was seen becomes rows: which frames, where the face lies in each, calm."""
