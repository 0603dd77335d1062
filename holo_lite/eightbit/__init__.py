"""Rows of 8-bit numbers: quantized, multiplied, and the limits of both."""
