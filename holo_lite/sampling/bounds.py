"""What may be asked of a run: sizes, and numbers within their bounds. Each check raises `SettingsError`."""

from __future__ import annotations

from holo_lite.errors import SettingsError
from holo_lite.story.shots import PIXELS_PER_TOKEN

MOST_STEPS = 1000
MOST_PIXELS = 4096  # a side; beyond any clip a card could hold
BOUNDS = {
    "fps": (0.1, 240),
    "steps": (1, MOST_STEPS),
    "cfg": (1, 100),
    "seed": (0, 2**64 - 1),
    "cache": (0, 1),
    "kappa": (0, 1),
    "shift": (0.01, 1000),
}
RANDOM_SEED = -1  # what it means in other programs


def check_side(name: str, pixels: int) -> int:
    """A height or width in pixels."""
    if pixels % PIXELS_PER_TOKEN or not PIXELS_PER_TOKEN <= pixels <= MOST_PIXELS:
        near = PIXELS_PER_TOKEN * round(min(max(pixels, PIXELS_PER_TOKEN), MOST_PIXELS) / PIXELS_PER_TOKEN)
        raise SettingsError(f"{name} {pixels}: must be a multiple of 16 up to {MOST_PIXELS}; the nearest is {near}")
    return pixels


def check_number(name: str, value: float) -> float:
    """A number of `BOUNDS`."""
    low, high = BOUNDS[name]
    if name == "seed" and value == RANDOM_SEED:
        raise SettingsError(f"seed {value}: no seed is random here; --seeds 4 makes four drafts to choose from")
    if not low <= value <= high:  # true of NaN, too
        raise SettingsError(f"{name} {value}: give a number from {low} to {high}")
    return value


def check_cache(thresholds: tuple[float, float]) -> tuple[float, float]:
    """Both experts' thresholds."""
    high, low = (check_number("cache", threshold) for threshold in thresholds)
    return high, low


def check_share(name: str, share: float) -> float:
    """A part of the whole."""
    if not 0 < share <= 1:  # true of NaN, too
        raise SettingsError(f"{name} {share}: give a number above 0, and at most 1")
    return share


def check_text(name: str, text: str) -> str:
    """Refuse what no file can hold: the bytes of another encoding, as a terminal may hand them on."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SettingsError(f"{name}: {text[error.start]!a} is not UTF-8; write it as UTF-8") from None
    return text
