"""Runs that survive: what is kept of a run in its folder, so that it can go on after any interruption."""
