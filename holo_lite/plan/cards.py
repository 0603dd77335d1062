"""Finding a graphics card by its name, however it is written."""

from __future__ import annotations

import difflib
import re

from holo_lite.errors import SettingsError
from holo_lite.plan.card_table import CARDS
from holo_lite.plan.known_card import KnownCard

FILLERS = re.compile(r"nvidia|geforce|quadro|tesla|rtx|graphics card|generation|gpu|[\s_()-]")
GIBIBYTES = re.compile(r"(\d+)\s*(gib|gb|g)(?![a-z0-9])")
CLOSE = 0.75  # of their characters in common


def find_card(name: str) -> KnownCard:
    """Give the card of that name, written as one likes (``rtx4090``). Raises `SettingsError`."""
    known = {key: card for card in CARDS for key in card_keys(card)}
    if short_name(name) in known:
        return known[short_name(name)]
    near = _nearest(short_name(name), known)
    hint = f"did you mean '{near.name}'?" if near else "give a profile of its size instead, such as --profile 12gb"
    raise SettingsError(f"graphics card '{name}': unknown; {hint}")


def card_keys(card: KnownCard) -> set[str]:
    """All short names of a card: with and without its memory."""
    return {short_name(each) for each in (card.name, f"{card.name} {card.memory_gib:g} GB", *card.also)}


def short_name(name: str) -> str:
    """A name without what may be left out: ``4090``, ``4060ti16gb``, ``4090laptop``."""
    plain = GIBIBYTES.sub(r"\1gb ", name.lower()).replace("mobile", "laptop")
    return FILLERS.sub("", plain)


def _nearest(short: str, known: dict[str, KnownCard]) -> KnownCard | None:
    """The card with the same number in its name, else the one written most like it; None: none is like it."""
    number = re.search(r"\d{3,}", short)
    same = [key for key in known if number and number[0] in key]
    pool, cutoff = (same, 0.0) if same and not short.startswith(("gtx", "rx")) else (list(known), CLOSE)
    close = difflib.get_close_matches(short, pool, n=1, cutoff=cutoff)
    return known[close[0]] if close else None
