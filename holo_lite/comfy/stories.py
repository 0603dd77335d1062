"""What is typed into the storyboard nodes, as the tree of a storyboard. What the words say is judged elsewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .handles import NodeError, Picture, Story, Tree

EMPTY_LINE = re.compile(r"\n[ \t]*\n")


def captions_of(text: str, more: Sequence[str] = ()) -> list[str]:
    """The captions in a text, between two of which an empty line stands, and more of them.

    Raises `NodeError` where there is none.
    """
    texts = [*EMPTY_LINE.split(text.replace("\r\n", "\n")), *more]
    found = [" ".join(each.split()) for each in texts if each.strip()]
    if not found:
        raise NodeError("shots: there is no caption; say what each shot shows, with an empty line between two")
    return found


def numbers_of(name: str, text: str) -> list[int]:
    """Whole numbers, with commas between them. Raises `NodeError`."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if any(not (word.isascii() and word.isdigit()) for word in words):
        raise NodeError(f"{name}: {text.strip()!r} is no list of numbers; give such as 49, 97")
    return [int(word) for word in words]


def story_of(scene: str, shots: Sequence[str], frames: int, cuts: str, pictures: Sequence[Picture]) -> Story:
    """The storyboard of the captions. frames: 0 is the model's own length. Raises `NodeError`."""
    tree: Tree = {"global": scene.strip(), "shot": [{"caption": each} for each in shots]}
    if frames:
        tree["frames"] = frames
    if found := numbers_of("cuts", cuts):
        tree["cuts"] = found
    return Story(_with_pictures(tree, pictures))


def story_of_toml(text: str, folder: Path, pictures: Sequence[Picture]) -> Story:
    """The storyboard that a TOML text is; files without a folder are in `folder`. Raises `NodeError`."""
    return Story(_with_pictures(_found_in(_parsed(text), folder), pictures))


def fault_of(text: str) -> str:
    """What is wrong with a text as TOML, on one line; nothing where it is right."""
    try:
        _parsed(text)
    except NodeError as error:
        return str(error)
    return ""


def _parsed(text: str) -> Tree:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NodeError(f"storyboard: no TOML ({error}); docs/storyboards.md shows how it is written") from None
    if not found:
        raise NodeError("storyboard: is empty; paste a storyboard in TOML")
    return found


def _tables(tree: Tree, *names: str) -> list[Tree]:
    lists = [tree[name] for name in names if isinstance(tree.get(name), list)]
    return [each for found in lists for each in found if isinstance(each, dict)]


def _found_in(tree: Tree, folder: Path) -> Tree:
    """The same with absolute paths of pictures and videos."""
    for table in _tables(tree, "shot", "shots", "reference"):
        for name in ("image", "video"):
            if isinstance(table.get(name), str):
                table[name] = str(folder / table[name])
    return tree


def _with_pictures(tree: Tree, pictures: Sequence[Picture]) -> Tree:
    shots, references = _tables(tree, "shot", "shots"), list(_tables(tree, "reference"))
    for each in pictures:
        if each.shot is None:
            references.append(_reference(each))
        elif each.shot > len(shots):
            raise NodeError(f"pictures: one is for shot {each.shot}, but there are {len(shots)} shots")
        else:
            shots[each.shot - 1]["image"] = str(each.file)
    return {**tree, "reference": references} if references else tree


def _reference(picture: Picture) -> dict[str, Any]:
    if not picture.caption.strip():
        raise NodeError("pictures: a reference needs a caption; say who or what it shows")
    return {"image": str(picture.file), "caption": picture.caption.strip()}
