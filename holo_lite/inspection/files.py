"""Files that are none of the known kinds: what they look like, and what `inspect` knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holo_lite.errors import OutputError
from holo_lite.reading.files import open_ordinary
from holo_lite.system.units import bytes_text

KNOWN = (
    "inspect knows storyboards, videos and sheets of holo-lite, run folders, models and their parts, checkpoints, "
    "LoRAs, latents, tokenizers, profiles and recipes"
)
FIRST = 64  # bytes by which a file is told
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftyp", "an MP4 or QuickTime video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (8, b"AVI ", "an AVI video"),
    (8, b"WAVE", "a WAV sound"),
    (0, b"ID3", "an MP3 sound"),
    (0, b"GGUF", "weights as GGUF; name it .gguf"),
    (0, b"PK\x03\x04", "a zip archive, which weights of PyTorch are, too; name those .pth"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself; run git lfs pull"),
)


def missing(path: Path) -> Iterator[str]:
    """Raise `OutputError` for a name that nothing has."""
    raise OutputError(f"{path}: there is no such file; check the name")


def unknown(path: Path) -> Iterator[str]:
    """Raise `OutputError` that says what was looked at."""
    try:
        with open_ordinary(path) as file:
            first, size = file.read(FIRST), path.stat().st_size
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror}); {KNOWN}") from error
    raise OutputError(f"{path}: {bytes_text(size)}, {looks_like(first)}: nothing that can be shown; {KNOWN}")


def looks_like(first: bytes) -> str:
    """What a file is by its first bytes."""
    for place, magic, name in MAGIC:
        if first[place:].startswith(magic):
            return name
    if not first:
        return "an empty file"
    if first[8:10] == b'{"' and first[4:8] == bytes(4):
        return "weights as safetensors; name it .safetensors"
    return "a text" if _is_text(first) else "bytes of no kind known here"


def _is_text(first: bytes) -> bool:
    """Whether it is UTF-8, but for a character that is cut off at the end."""
    text = first.decode("utf-8", "ignore")
    return len(first) - len(text.encode()) < 4 and all(c.isprintable() or c in "\n\r\t\ufeff" for c in text)
