"""Shots that a text numbers by itself: ``Shot 1: … Shot 2: …``, as people and chat programs write them.

The model knows nothing of such numbers: to it the text is one shot of everything. Here they become a storyboard.
"""

from __future__ import annotations

import re

from holo_lite.story.prompt import clean
from holo_lite.story.storyboard import Shot, Storyboard

HEADING = re.compile(
    r"(?:^|(?<=[\s*#.!?。！？]))\W{0,4}(?:(?:shot|scene)\s*#?\s*(\d{1,3})|(?:镜头|分镜|第)\s*(\d{1,3})\s*(?:个?镜头)?)"
    r"\s*(?:[(\[（][^)\]）]{0,40}[)\]）])?\s*[*_]{0,3}\s*[:：.\-–—]\s*[*_]{0,3}\s*",
    re.IGNORECASE,
)
SHARED = "The characters and the place that all shots share."  # stands for what the text does not say


def numbered_shots(text: str) -> Storyboard | None:
    """Make a storyboard of a text that numbers at least two shots from 1 on; None of any other."""
    cleaned = clean(text)
    heads = list(HEADING.finditer(cleaned))
    numbers = [int(head[1] or head[2]) for head in heads]
    if len(numbers) < 2 or numbers != list(range(1, len(numbers) + 1)):
        return None
    ends = [*(head.start() for head in heads[1:]), len(cleaned)]
    captions = [cleaned[head.end() : end].strip(" *#_") for head, end in zip(heads, ends, strict=True)]
    if not all(captions):
        return None
    scene = cleaned[: heads[0].start()].strip(" *#_:") or SHARED
    return Storyboard(scene, tuple(map(Shot, captions)))
