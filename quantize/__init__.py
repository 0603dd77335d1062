"""Quantization: checkpoints become 8-bit or 4-bit models."""
