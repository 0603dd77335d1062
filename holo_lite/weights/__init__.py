"""Files of weights: opened lazily, checked before use, found by name."""
