"""Checks before a run: what may go wrong with a storyboard, and what a clip will need."""
