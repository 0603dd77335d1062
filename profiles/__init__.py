"""Profiles: what a machine may spend on a run."""
