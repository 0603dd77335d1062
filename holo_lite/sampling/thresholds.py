"""The step cache's thresholds as a person types them."""

from __future__ import annotations

from holo_lite.errors import SettingsError

PLACES = {"high": 0, "low": 1}


def parse_thresholds(text: str) -> tuple[float, float]:
    """Read ``THRESHOLD``, or ``high=THRESHOLD,low=THRESHOLD`` with either left out. Raises `SettingsError`."""
    found = [0.0, 0.0]
    try:
        if "=" not in text:
            return float(text), float(text)
        for part in text.split(","):
            noise, _sign, threshold = part.partition("=")
            found[PLACES[noise.strip()]] = float(threshold)
    except (KeyError, ValueError):
        raise SettingsError(f"--cache '{text}': write a threshold such as 0.1, or high=0.1,low=0.05") from None
    return found[0], found[1]
