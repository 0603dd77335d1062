"""What may be done to a draft: one function an operation, each a small step from one draft to the next.

Operations name what they mean by ids and never send the whole, so two open pages do not write over each other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holo_lite.errors import SettingsError
from holo_lite.reading.values import shown
from holo_lite.web.draft import Draft, DraftReference, DraftSettings, DraftShot, empty_draft

LONGEST_TEXT = 20_000  # characters of one field
MOST_SHOTS, MOST_LATENTS = 200, 2000
CHARACTER = re.compile(r"\[character(\d+)\]")
Said = Mapping[str, Any]
Operation = Callable[[Draft, Said], Draft]


def edited(draft: Draft, said: Said) -> Draft:
    """The draft after an operation, such as ``{"op": "cut", "index": 0, "latent": 16}``.

    Raises `SettingsError` for one that is not known, or cannot be done.
    """
    operation = OPERATIONS.get(str(said.get("op")))
    if operation is None:
        raise SettingsError(f"op {shown(said.get('op'))}: is not known")
    try:
        found = operation(draft, said)
    except (LookupError, TypeError, ValueError) as error:
        raise SettingsError(f"{said['op']}: cannot be done ({error})") from error
    if len(found.shots) > MOST_SHOTS or found.latents > MOST_LATENTS:
        raise SettingsError(f"a clip has at most {MOST_SHOTS} shots and {MOST_LATENTS} latent frames")
    return found


def text_key(said: Said) -> str | None:
    """The field a text operation writes to; typing in one field is one step for undo. None for all others."""
    kind = said.get("op")
    return (
        f"{kind} {said.get('shot', said.get('id', ''))}"
        if kind in {"scene", "title", "caption", "reference"}
        else None
    )


def _text(said: Said) -> str:
    text = said["text"]
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise ValueError(f"a text of at most {LONGEST_TEXT} characters is expected")
    return text


def _whole(said: Said, name: str) -> int:
    number = said[name]
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{name} is a whole number")
    return number


def _scene(draft: Draft, said: Said) -> Draft:
    return dataclasses.replace(draft, scene=_text(said))


def _title(draft: Draft, said: Said) -> Draft:
    return dataclasses.replace(draft, title=_text(said))


def _caption(draft: Draft, said: Said) -> Draft:
    return draft.with_shot(draft.place(said["shot"]), caption=_text(said))


def _cut(draft: Draft, said: Said) -> Draft:
    """Move the cut between two shots, as far as both have a frame left."""
    index = _whole(said, "index")
    before, after = draft.shots[index : index + 2]
    start = draft.starts[index]
    length = min(max(_whole(said, "latent") - start, 1), before.latents + after.latents - 1)
    both = before.latents + after.latents
    return draft.with_shot(index, latents=length).with_shot(index + 1, latents=both - length)


def _length(draft: Draft, said: Said) -> Draft:
    return draft.with_shot(draft.place(said["shot"]), latents=min(max(_whole(said, "latents"), 1), MOST_LATENTS))


def _add(draft: Draft, said: Said) -> Draft:
    place = len(draft.shots) if said.get("after") is None else draft.place(said["after"]) + 1
    draft, name = draft.with_id("s")
    return _inserted(draft, place, DraftShot(name))


def _split(draft: Draft, said: Said) -> Draft:
    """Cut a shot in two; the second half waits for its caption."""
    place = draft.place(said["shot"])
    whole = draft.shots[place].latents
    if whole < 2:
        raise ValueError("a shot of one latent frame cannot be split")
    first = min(max(_whole(said, "latents") if "latents" in said else whole // 2, 1), whole - 1)
    draft, name = draft.with_shot(place, latents=first).with_id("s")
    return _inserted(draft, place + 1, DraftShot(name, latents=whole - first))


def _remove(draft: Draft, said: Said) -> Draft:
    if len(draft.shots) == 1:
        raise ValueError("the last shot stays; write something else into it")
    place = draft.place(said["shot"])
    return dataclasses.replace(draft, shots=draft.shots[:place] + draft.shots[place + 1 :])


def _move(draft: Draft, said: Said) -> Draft:
    place = draft.place(said["shot"])
    rest = list(draft.shots)
    shot = rest.pop(place)
    rest.insert(min(max(_whole(said, "to"), 0), len(rest)), shot)
    return dataclasses.replace(draft, shots=tuple(rest))


def _option(draft: Draft, said: Said) -> Draft:
    """Choose a setting, checked by its type; what it means is checked where a run is decided."""
    name = said["name"]
    if name not in {each.name for each in dataclasses.fields(DraftSettings)}:
        raise ValueError(f"there is no option {shown(name)}")
    value = [] if name == "lora" and said["value"] is None else said["value"]
    try:
        settings = msgspec.convert({**msgspec.to_builtins(draft.settings), name: value}, DraftSettings)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    return dataclasses.replace(draft, settings=settings)


def _picture(draft: Draft, said: Said) -> Draft:
    upload = said["upload"]
    if upload is not None and not isinstance(upload, str):
        raise ValueError("a picture is named by its id")
    return draft.with_shot(draft.place(said["shot"]), picture=upload)


def _reference_add(draft: Draft, said: Said) -> Draft:
    if not isinstance(said["upload"], str):
        raise ValueError("a picture is named by its id")
    draft, name = draft.with_id("r")
    caption = _text({"text": said.get("caption", "")})
    return dataclasses.replace(draft, references=(*draft.references, DraftReference(name, said["upload"], caption)))


def _reference(draft: Draft, said: Said) -> Draft:
    found = tuple(
        dataclasses.replace(each, caption=_text(said)) if each.id == said["id"] else each
        for each in draft.references
    )
    return dataclasses.replace(draft, references=found)


def _reference_remove(draft: Draft, said: Said) -> Draft:
    kept = tuple(each for each in draft.references if each.id != said["id"])
    return dataclasses.replace(draft, references=kept)


def _character(draft: Draft, _: Said) -> Draft:
    """Name one more character in the scene; who that is, is to be written behind it."""
    last = max((int(number) for number in CHARACTER.findall(draft.scene)), default=0)
    scene = f"{draft.scene.rstrip()} [character{last + 1}] is ".lstrip()
    return dataclasses.replace(draft, scene=scene)


def _new(_: Draft, __: Said) -> Draft:
    return empty_draft()


def _inserted(draft: Draft, place: int, shot: DraftShot) -> Draft:
    return dataclasses.replace(draft, shots=(*draft.shots[:place], shot, *draft.shots[place:]))


OPERATIONS: Mapping[str, Operation] = {
    "scene": _scene,
    "title": _title,
    "caption": _caption,
    "cut": _cut,
    "length": _length,
    "add": _add,
    "split": _split,
    "remove": _remove,
    "move": _move,
    "option": _option,
    "picture": _picture,
    "reference_add": _reference_add,
    "reference": _reference,
    "reference_remove": _reference_remove,
    "character": _character,
    "new": _new,
}
