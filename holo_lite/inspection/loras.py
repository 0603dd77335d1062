"""LoRAs: what they change, how strongly, and for which expert."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from holo_lite.errors import CheckpointError, OutputError, RecordError
from holo_lite.inspection.lines import do, fact, some
from holo_lite.lora.keys import form_of
from holo_lite.lora.notes import OTHER_MODELS
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import parse
from holo_lite.system.units import bytes_text
from holo_lite.weights.file_names import traits

if TYPE_CHECKING:
    from holo_lite.lora.terms import Lora, Term
    from holo_lite.weights.weight_file import TensorEntry

BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(?:weight|bias|modulation)")
SAID_IN = re.compile(r"name|title|base_model|description|comment|tags", re.IGNORECASE)  # keys of the metadata
FILE = "adapter_model.safetensors"


def lora(path: Path) -> Iterator[str]:
    """An adapter's file, or peft's folder of one. Raises `CheckpointError`."""
    from holo_lite.lora.file import open_lora

    file = path / FILE if path.is_dir() else path
    adapter = open_lora(file)
    size = sum(entry.nbytes for entry in adapter.file.entries.values())
    dtypes = sorted({str(entry.dtype).removeprefix("torch.") for entry in adapter.file.entries.values()})
    yield f"LoRA: changes {some(len(adapter.terms), 'tensor')} of an expert"
    yield fact("file", f"{some(len(adapter.file.entries), 'key')}, {bytes_text(size)}, {', '.join(dtypes)}")
    yield from _naming(adapter)
    yield from _strength(adapter)
    yield from _modules(adapter)
    expert, why = _expert(file)
    yield fact("expert", why)
    if other := OTHER_MODELS.search(file.stem.lower()):
        yield fact("note", f"its name says {other[0]}, so it was trained for another model")
    yield fact("fits", _fits(adapter))
    noise = expert or "EXPERT"  # never a guess: in the other expert it would spoil a run without an error
    yield do("add it as a model runs", "generate", "STORYBOARD", "--model", "FOLDER", "--lora", f"{noise}={file}:1")


def lora_settings(path: Path) -> Iterator[str]:
    """What peft writes next to an adapter. Raises `OutputError`."""
    try:
        found = parse(read_bytes(path))
    except (OSError, RecordError) as error:
        raise OutputError(f"{path}: is no JSON that can be read; download it again") from error
    if not isinstance(found, dict):
        raise OutputError(f"{path}: is not a JSON table; download it again")
    said = {"rank": found.get("r"), "alpha": found.get("lora_alpha"), "for": found.get("base_model_name_or_path")}
    yield f"settings of a LoRA, for the {FILE} next to it"
    yield from (
        fact(name, f"{value!s:.80}") for name, value in said.items() if isinstance(value, int | float | str)
    )
    yield do("look at the LoRA", "inspect", path.parent / FILE)


def _naming(adapter: Lora) -> Iterator[str]:
    """In whose naming the keys are, with one of each."""
    forms: dict[str, str] = {}
    for key in adapter.file.entries:
        forms.setdefault(form_of(key), key)
    yield from (fact("naming", f"{form}, as in {key}") for form, key in forms.items())


def _strength(adapter: Lora) -> Iterator[str]:
    """Ranks, alphas, and by what a strength of 1 multiplies."""
    pairs = [term for terms in adapter.terms.values() for term in terms if term.down is not None]
    entries = adapter.file.entries
    ranks: Counter[float] = Counter(entries[term.down].shape[0] for term in pairs if term.down is not None)
    whole = sum(term.down is None for terms in adapter.terms.values() for term in terms)
    if pairs:
        yield fact("rank", _counted(ranks))
        yield fact("alpha", _alphas(pairs, entries))
    if whole:
        yield fact("also" if pairs else "adds", f"{some(whole, 'whole difference')} of weights, biases or norms")


def _alphas(pairs: Sequence[Term], entries: Mapping[str, TensorEntry]) -> str:
    """The alphas that are given, and what they come to."""
    scales = Counter(term.scale for term in pairs)
    if set(scales) == {1.0}:
        return "none, or the rank itself: at strength 1 it adds up × down as they are"
    given = Counter(term.scale * entries[term.down].shape[0] for term in pairs if term.down is not None)
    return f"{_counted(given)}; at strength 1 it adds {_scales(scales)}"


def _counted(found: Mapping[float, int]) -> str:
    """Values with how often each is there, unless there is one alone."""
    listed = [f"{value:g}" + (f" ({count} times)" if len(found) > 1 else "") for value, count in _first(found)]
    return ", ".join(listed) + (" and others" if len(found) > len(listed) else "")


def _scales(found: Mapping[float, int]) -> str:
    return " or ".join(f"{scale:g} × up × down" for scale, _ in _first(found))


def _first(found: Mapping[float, int]) -> list[tuple[float, int]]:
    return Counter(found).most_common(4)


def _modules(adapter: Lora) -> Iterator[str]:
    """Which layers are changed, in how many blocks, and what outside of these."""
    inside: dict[str, set[str]] = {}
    outside = []
    for name in adapter.terms:
        if match := BLOCK.fullmatch(name):
            inside.setdefault(match[2], set()).add(match[1])
        else:
            outside.append(name)
    if inside:
        blocks = len(set().union(*inside.values()))
        yield fact("changes", f"{', '.join(sorted(inside)):.300} in {some(blocks, 'block')}")
    if outside:
        yield fact("outside", f"{', '.join(sorted(outside)):.300}")


def _expert(path: Path) -> tuple[str, str]:
    """The word of `--lora` for the expert that a file is for, and by what that is known; nothing if unknown."""
    if noise := traits((path.stem,)).noise:
        return noise.removesuffix("_noise"), f"{noise.replace('_', ' ')}, by its name"
    if path.suffix == ".safetensors":
        from holo_lite.weights.plain_header import read_plain_header

        for key, value in read_plain_header(path).metadata.items():
            if SAID_IN.search(key) and (noise := traits((value[:200],)).noise):
                return noise.removesuffix("_noise"), f"{noise.replace('_', ' ')}, by {key} in its header"
    return "", "neither its name nor its header says high or low noise; its page should"


def _fits(adapter: Lora) -> str:
    """Whether it fits the released experts."""
    from holo_lite.config import HOLOCINE_14B
    from holo_lite.plan.released import expert_shapes

    try:
        adapter.check(dict(expert_shapes(HOLOCINE_14B)))
    except CheckpointError as error:
        why = str(error).removeprefix(f"{adapter.path}: ").removeprefix("is not a LoRA for this model: ")
        return f"not HoloCine's experts: {why:.300}"
    return "HoloCine's experts, and any of Wan 2.2 T2V A14B"
