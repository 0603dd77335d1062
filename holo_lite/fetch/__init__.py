"""Bringing the released files from the hub: which, from where, under which terms, and whole."""
