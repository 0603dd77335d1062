"""Cases that are many of a kind: `make test` tries some of each kind, and `make thorough` all of them."""

import os

import pytest

THOROUGH = os.environ.get("THOROUGH") == "1"
ALIKE = pytest.mark.skipif(not THOROUGH, reason="one of many alike: `make thorough` runs all")


def alike(*values):
    """A case of a parametrized test that `make test` leaves to `make thorough`."""
    return pytest.param(*values, marks=ALIKE)
