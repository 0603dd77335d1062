"""Pictures that a person gave: kept by an id under a name of our own, recognised by their first bytes.

They are decoded elsewhere, in the process that plans and the one that renders; here they are only bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import SettingsError
from holo_lite.system.whole_files import draft

LARGEST = 64 * 2**20
LONGEST_NAME = 120
ID = re.compile(r"[0-9a-f]{32}")
KINDS = {
    b"\x89PNG\r\n\x1a\n": (".png", "image/png"),
    b"\xff\xd8\xff": (".jpg", "image/jpeg"),
    b"RIFF": (".webp", "image/webp"),
}


@dataclass(frozen=True)
class Upload:
    """A picture: its id, what it was called, its file, and its media type."""

    id: str
    name: str
    path: Path
    media: str


class Uploads:
    """The pictures in one folder. The name that a person's file had is in a small file beside each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, upload: str | None) -> Upload | None:
        """The picture of that id; None where there is none."""
        if upload is None or not ID.fullmatch(upload):
            return None
        for suffix, media in KINDS.values():
            path = self._folder / f"{upload}{suffix}"
            if path.is_file():
                return Upload(upload, self._name(upload), path, media)
        return None

    async def take(self, name: str, pieces: AsyncIterator[bytes]) -> Upload:
        """Keep what comes, up to a bound. Raises `SettingsError` for what is too large, or no picture."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = await _whole(pieces)
        suffix, media = _kind(content)
        upload = hashlib.sha256(content).hexdigest()[:32]
        path = self._folder / f"{upload}{suffix}"
        with draft(path) as partial:
            partial.write_bytes(content)
        shown = os.path.basename(name.replace("\\", "/"))[:LONGEST_NAME] or "picture"
        with draft(self._folder / f"{upload}.name") as partial:
            partial.write_text("".join(c if c.isprintable() else " " for c in shown), encoding="utf-8")
        return Upload(upload, self._name(upload), path, media)

    def _name(self, upload: str) -> str:
        try:
            return (self._folder / f"{upload}.name").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return "picture"


async def _whole(pieces: AsyncIterator[bytes]) -> bytes:
    found = bytearray()
    async for piece in pieces:
        found += piece
        if len(found) > LARGEST:
            raise SettingsError(f"the picture is larger than {LARGEST // 2**20} MB; save a smaller one")
    return bytes(found)


def _kind(content: bytes) -> tuple[str, str]:
    for head, kind in KINDS.items():
        if content.startswith(head) and (head != b"RIFF" or content[8:12] == b"WEBP"):
            return kind
    raise SettingsError("this is not a PNG, JPEG or WebP picture; save it as one of these")
