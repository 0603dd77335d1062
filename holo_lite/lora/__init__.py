"""Adapters: their files, keys and factors."""
