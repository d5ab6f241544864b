"""From sound to the shape of a mouth, by a small network in numpy."""
