"""The schemes by name.

Looking one up, and asking it for sizes and bounds, costs nothing: bitsandbytes and optimum-quanto are imported
when a weight is first packed or unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from holo_lite.schemes.bnb import Int8, Nf4, Nf4Single
from holo_lite.schemes.names import check_scheme
from holo_lite.schemes.plain import Plain
from holo_lite.schemes.quanto import QFloat8, QInt4, QInt8
from holo_lite.schemes.scheme import Scheme

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {each.name: each for each in (Plain(), Int8(), Nf4(), Nf4Single(), QInt8(), QInt4(), QFloat8())}
)


def find(name: str) -> Scheme:
    """Give the scheme of that name. Raises `SettingsError`, with the nearest name, for an unknown one."""
    return SCHEMES[check_scheme(name)]
