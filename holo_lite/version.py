"""The version of holo-lite."""

__version__ = "0.1.0"
