"""Fixtures that several test files share."""

import lzma
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "parity_data"


@pytest.fixture(scope="session")
def umt5_tokenizer_path(tmp_path_factory):
    """The real tokenizer.json of google/umt5-xxl, unpacked once."""
    path = tmp_path_factory.mktemp("umt5-xxl") / "tokenizer.json"
    path.write_bytes(lzma.decompress((DATA / "umt5-xxl" / "tokenizer.json.xz").read_bytes()))
    return path
