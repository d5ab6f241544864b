"""What looks at faces in the source: detectors, parsers, enhancement."""
