"""MuseTalk v1.5 and v1: speech features, networks, renderer. Needs torch."""
