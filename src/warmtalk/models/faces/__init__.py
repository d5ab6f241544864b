"""Face detection, face parsing and face restoration."""
