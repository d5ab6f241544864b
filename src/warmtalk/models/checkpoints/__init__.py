"""Files of published weights: where they lie, how they come, how they are opened."""
