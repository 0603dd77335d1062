"""Runs that can be resumed: what is kept of a run in its folder, so that it can continue after any interruption."""
