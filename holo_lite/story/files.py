"""Storyboards as files: TOML or JSON in parts, or a whole prompt as text.

A key that is not known is an error, never skipped: a misspelt ``cuts`` would otherwise cost an hour of
rendering the wrong video. Every error is one line that begins with the name of the file. The keys and
their meaning are described in docs/storyboards.md.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import StoryboardError, nearest
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import parse_json as parse_json_text, parse_toml as parse_toml_text
from holo_lite.reading.values import wrong
from holo_lite.story.prompt import GLOBAL_TAG
from holo_lite.story.storyboard import Reference, Shot, Storyboard, naming

LARGEST_STORYBOARD = 2**20  # bytes; the model reads 512 tokens
SUFFIXES = (".toml", ".json", ".txt")
LIKE_A_FILE = re.compile(r"[/\\]|\.[A-Za-z0-9]{1,8}$|^[.~]|\0")  # as a file's name: a folder, a suffix, hidden
LIKE_TOML = re.compile(r"^[ \t]*(\[\[shots?\]\]|(title|prompt|global|frames|cuts|seed|fps)[ \t]*=)", re.MULTILINE)
AnyStoryboard = Storyboard | str | Path  # a text is a prompt, or the path of a file
_ELSEWHERE = {  # what other programs call our keys
    "guidance_scale": "cfg",
    "guidance": "cfg",
    "num_inference_steps": "steps",
    "num_frames": "frames",
    "length": "frames",
    "negative_prompt": "negative",
    "size": "width and height",
    "resolution": "width and height",
}
_SHOT_KEYS = ("caption", "frames", "seconds", "image", "video")
_REFERENCE_KEYS = ("caption", "image", "video")
_TOP_KEYS = (
    *("title", "prompt", "global", "shot", "shots", "reference", "cuts", "frames"),
    *("height", "width", "fps", "steps", "cfg", "seed", "negative"),
)


def as_storyboard(source: AnyStoryboard) -> Storyboard:
    """The storyboard itself, or what ``load_storyboard`` makes of a prompt or a path.

    Raises:
        StoryboardError: as ``load_storyboard``, and for anything else.
    """
    return source if isinstance(source, Storyboard) else load_storyboard(source)


def load_storyboard(source: str | Path) -> Storyboard:
    """Read the storyboard file ``source``, or take ``source`` itself as a whole prompt.

    A string is a prompt when it names no file and does not look as if it should: many scripts have no spaces, and
    one word is a prompt, too. Looking like a file is to end in a suffix, or to hold a slash and no white space.

    Raises:
        StoryboardError: the file cannot be read or understood, or describes no possible storyboard.
    """
    if not isinstance(source, str | Path):
        raise wrong("storyboard", source, "a Storyboard, a prompt or the path of a file", StoryboardError)
    if isinstance(source, str) and is_prompt(source):
        return Storyboard(None, (), raw=source.strip())
    path = Path(source)
    where = str(source)
    if not where.strip():
        raise StoryboardError("no storyboard is given; give a file, or a prompt in quotes")
    with naming(where):
        text = _read(path)
    match path.suffix.lower():
        case ".toml":
            return parse_toml(text, where)
        case ".json":
            return parse_json(text, where)
        case _:
            with naming(where):
                return Storyboard(None, (), raw=text.strip(), source=where)


def parse_text(text: str, where: str) -> Storyboard:
    """Read a storyboard whose file's name says nothing: JSON, TOML, or a whole prompt, by how the text looks.

    Raises `StoryboardError`.
    """
    if text.lstrip().startswith("{"):
        return parse_json(text, where)
    if LIKE_TOML.search(text):
        return parse_toml(text, where)
    with naming(where):
        return Storyboard(None, (), raw=text.strip(), source=where)


def parse_toml(text: str, where: str) -> Storyboard:
    """Read a storyboard from TOML ``text``; ``where`` is the name that errors begin with.

    Raises:
        StoryboardError: the text is not TOML, or the storyboard in it is not well formed.
    """
    with naming(where):
        try:
            values: object = parse_toml_text(text)
        except ValueError as error:
            raise StoryboardError(f"this is not valid TOML: {error}; fix that line") from None
        return _storyboard(values, where)


def parse_json(text: str, where: str) -> Storyboard:
    """Read a storyboard from JSON ``text``; ``where`` is the name that errors begin with.

    Raises:
        StoryboardError: the text is not JSON, or the storyboard in it is not well formed.
    """
    with naming(where):
        try:
            values: object = parse_json_text(text, _without_repeats)
        except ValueError as error:
            raise StoryboardError(f"this is not valid JSON: {error}; fix that line") from None
        return _storyboard(values, where)


def dump_toml(storyboard: Storyboard) -> str:
    """Write the storyboard as TOML that ``parse_toml`` reads back as an equal storyboard."""
    top: dict[str, object] = {
        "title": storyboard.title,
        "prompt": storyboard.raw,
        "global": storyboard.global_caption,
        "cuts": storyboard.cuts,
        "frames": storyboard.frames,
        "height": storyboard.height,
        "width": storyboard.width,
        "fps": storyboard.fps,
        "steps": storyboard.steps,
        "cfg": storyboard.cfg,
        "seed": storyboard.seed,
        "negative": storyboard.negative,
    }
    tables = [_dump_table(top)]
    for shot in storyboard.shots:
        values = {key: getattr(shot, key) for key in _SHOT_KEYS}
        tables.append("[[shot]]\n" + _dump_table(values))
    for reference in storyboard.references:
        values = {key: getattr(reference, key) for key in _REFERENCE_KEYS}
        tables.append("[[reference]]\n" + _dump_table(values))
    return "\n".join(tables)


def is_prompt(source: str) -> bool:
    """Whether a text is a whole prompt, and not the name of a file, there or not.

    A word that names a storyboard but for its suffix is no prompt: the hours it takes would be for another video.
    """
    if not source.strip() or source.lower().rstrip().endswith(SUFFIXES) or os.path.exists(source):
        return False
    if GLOBAL_TAG in source or len(source.split()) > 1:
        return True
    return not LIKE_A_FILE.search(source) and not any(os.path.exists(source + suffix) for suffix in SUFFIXES)


def _read(path: Path) -> str:
    """Return the text of a storyboard file, without the byte-order mark some editors put first."""
    if os.path.isdir(path):
        raise StoryboardError("this is a folder; name the storyboard file in it")
    if path.suffix.lower() not in SUFFIXES:
        raise StoryboardError(f"this is not a storyboard; name a {', '.join(SUFFIXES)} file or write a prompt")
    try:
        text = read_bytes(path, LARGEST_STORYBOARD).decode("utf-8-sig")
    except FileNotFoundError:
        raise StoryboardError("there is no such file; check the name") from None
    except UnicodeDecodeError as error:
        raise StoryboardError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise StoryboardError(f"it cannot be read ({error.strerror}); check the name and permissions") from None
    except ValueError:
        raise StoryboardError("no file can have this name; check it") from None
    if not text.strip():
        raise StoryboardError("the file is empty; write a storyboard into it")
    return text


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build a JSON object, refusing a key that is there twice (TOML refuses it by itself)."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise StoryboardError(f"the key {twice!r} is given twice; keep one")
    return values


def _storyboard(values: object, where: str) -> Storyboard:
    top = _Table.of(values, "the storyboard", "")
    top.refuse_unknown(_TOP_KEYS)
    return Storyboard(
        global_caption=top.text("global"),
        shots=_shots(top),
        cuts=top.whole_numbers("cuts"),
        frames=top.whole_number("frames"),
        raw=top.text("prompt"),
        title=top.text("title"),
        height=top.whole_number("height"),
        width=top.whole_number("width"),
        fps=top.number("fps"),
        steps=top.whole_number("steps"),
        cfg=top.number("cfg"),
        seed=top.whole_number("seed"),
        negative=top.text("negative"),
        references=_references(top),
        source=where,
    )


def _shots(top: _Table) -> tuple[Shot, ...]:
    if "shot" in top.values and "shots" in top.values:
        raise StoryboardError("both 'shot' and 'shots' are given; keep one")
    tables = top.values.get("shot", top.values.get("shots", []))
    if not isinstance(tables, list):
        raise StoryboardError(f"'shot' must be a list of shots ([[shot]] in TOML), not {_kind(tables)}")
    return tuple(_shot(values, number) for number, values in enumerate(tables, start=1))


def _shot(values: object, number: int) -> Shot:
    table = _Table.of(values, f"shot {number}", f" of shot {number}")
    for key in table.values:
        if key in _TOP_KEYS and key not in _SHOT_KEYS:
            raise StoryboardError(f"{key!r} is inside shot {number}; move it above the first shot")
    table.refuse_unknown(_SHOT_KEYS)
    caption = table.text("caption")
    if caption is None:
        raise StoryboardError(f"shot {number} has no caption; describe what is seen in it")
    length, files = (
        (table.whole_number("frames"), table.number("seconds")),
        (table.text("image"), table.text("video")),
    )
    with naming(f"shot {number}"):
        return Shot(caption, *length, *files)


def _references(top: _Table) -> tuple[Reference, ...]:
    tables = top.values.get("reference", [])
    if not isinstance(tables, list):
        raise StoryboardError(f"'reference' must be a list ([[reference]] in TOML), not {_kind(tables)}")
    return tuple(_reference(values, number) for number, values in enumerate(tables, start=1))


def _reference(values: object, number: int) -> Reference:
    table = _Table.of(values, f"reference {number}", f" of reference {number}")
    table.refuse_unknown(_REFERENCE_KEYS)
    caption = table.text("caption")
    if caption is None:
        raise StoryboardError(f"reference {number} has no caption; describe what is seen in it")
    files = table.text("image"), table.text("video")
    with naming(f"reference {number}"):
        return Reference(caption, *files)


@dataclass(frozen=True)
class _Table:
    """The keys of the storyboard or of one shot, read by the type that each must have."""

    values: dict[str, object]
    owner: str  # " of shot 3", or nothing at the top

    @classmethod
    def of(cls, values: object, name: str, owner: str) -> _Table:
        if not isinstance(values, dict):
            raise StoryboardError(f"{name} must be a table of keys and values, not {_kind(values)}")
        return cls(values, owner)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        for key in self.values:
            if key not in known:
                ours = _ELSEWHERE.get(key.lower())
                hint = f"; here it is {ours}" if ours else nearest(key, known)
                hint = hint or f"; the keys are {', '.join(known)}"
                raise StoryboardError(f"unknown key {key!r}{self.owner}{hint}")

    def text(self, key: str) -> str | None:
        if key not in self.values:
            return None
        value = self.values[key]
        if not isinstance(value, str):
            raise self._wrong(key, "a text in quotes", value)
        return value

    def whole_number(self, key: str) -> int | None:
        return _whole(self.values[key], f"{key!r}{self.owner}") if key in self.values else None

    def number(self, key: str) -> float | None:
        if key not in self.values:
            return None
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number", value)
        if not (abs(value) < 1e300 and math.isfinite(value)):
            raise StoryboardError(f"{key!r}{self.owner} must be a finite number; give one such as 5.0")
        return float(value)

    def whole_numbers(self, key: str) -> tuple[int, ...] | None:
        if key not in self.values:
            return None
        items = self.values[key]
        if not isinstance(items, list):
            raise self._wrong(key, "a list of whole numbers such as [49, 97]", items)
        return tuple(_whole(item, f"each of {key!r}{self.owner}") for item in items)

    def _wrong(self, key: str, wanted: str, value: object) -> StoryboardError:
        return StoryboardError(f"{key!r}{self.owner} must be {wanted}, not {_kind(value)}")


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise StoryboardError(f"{name} must be a whole number, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    """Name the type of a value as a person would."""
    kinds = {bool: "true or false", str: "a text", int: "a whole number", float: "a number with a point"}
    kinds |= {list: "a list", dict: "a table", type(None): "null"}
    return kinds.get(type(value), "a date or time")


def _dump_table(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_dump(value)}\n" for key, value in values.items() if value is not None)


def _dump(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_dump(item) for item in value) + "]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """Write a TOML basic string: quotes, backslashes and control characters escaped."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c) or (c if c.isprintable() else _escaped(c)) for c in text) + '"'


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08X}" if ord(character) > 0xFFFF else f"\\u{ord(character):04X}"
