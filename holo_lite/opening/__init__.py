"""A model folder opened for a device: checked, with its adapters."""
