"""Weights that come when they are needed: from disk, through pinned memory, to a few slots on the device."""
