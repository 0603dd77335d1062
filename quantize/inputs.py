"""From a folder of released files to a conversion: what each network is, and in what order its tensors go.

The networks are described by the runtime's own modules, built without memory, so the converter cannot disagree
with the runtime about what belongs to a model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from holo_lite.errors import CheckpointError, OutputError
from holo_lite.film.vae_files import DIFFUSERS_WEIGHTS, VAE_NAME, diffusers_names, open_vae
from holo_lite.lora.file import open_lora
from holo_lite.lora.terms import Lora
from holo_lite.model.load import describe_expert, expert_config
from holo_lite.opening.given import Loras
from holo_lite.reading.files import read_bytes
from holo_lite.text.encoder_files import EMBEDDING, encoder_file, module_names
from holo_lite.text.encoder_shapes import describe_text_encoder
from holo_lite.version import __version__
from holo_lite.weights.converted import ConvertedFile
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.manifest import FILE_NAME, PLAIN, read_manifest
from holo_lite.weights.sharded_file import ShardedFile
from quantize.convert import Conversion
from quantize.plan import ComponentPlan, Inputs, plan_component
from quantize.recipe import Recipe
from quantize.source import Source

ROLES = ("high_noise", "low_noise", "text_encoder", "vae")
OWN_LICENCE = "licence.txt"  # next to the weights of a model that is not HoloCine
LICENCE = (
    "The HoloCine experts in this folder are licensed CC BY-NC-SA 4.0: for research and other non-commercial use, "
    "with attribution, and shared alike; quantizing them makes an adaptation under the same licence. The umt5-xxl "
    "text encoder, its tokenizer and the Wan 2.1 VAE are licensed Apache-2.0."
)


def plan_conversion(
    folder: ModelFolder,
    out: Path,
    recipe: Recipe,
    *,
    device: torch.device,
    loras: Loras | None = None,
    roles: Sequence[str] = ROLES,
) -> Conversion:
    """Decide a conversion and check all that can be checked without reading weights.

    `loras` are files and strengths by expert; `roles` picks components. Raises `CheckpointError` for a source
    that is not what it should be, `OutputError` for an output folder inside the source.
    """
    _check_apart(folder.path, out)
    _check_unpacked(folder, roles)
    adapters: dict[str, list[Lora]] = {
        role: [open_lora(Path(file), strength) for file, strength in given] for role, given in (loras or {}).items()
    }
    components = [_component(role, folder, recipe, adapters.get(role, ())) for role in roles]
    _check_parts({component.role: component for component in components})
    return Conversion(
        out=out,
        components=tuple(components),
        recipe=recipe,
        sources=tuple(
            dict.fromkeys((*_files(components), *(lora.path for given in adapters.values() for lora in given)))
        ),
        extras=_extras(folder, components),
        facts={
            "attention": folder.attention,
            "defaults": dataclasses.asdict(folder.defaults),
            "loras": {role: tuple(_describe(lora) for lora in given) for role, given in adapters.items()},
            "licence": _licence(folder.path),
        },
        device=device,
        tools=tool_versions(),
    )


def _check_apart(source: Path, out: Path) -> None:
    """What is written into the source would be found there the next time."""
    source, place = source.resolve(), out.resolve()
    if place == source:
        raise OutputError(f"{out}: is the source; name another folder to write into")
    if source in place.parents:
        raise OutputError(f"{out}: is inside the source; name a folder next to it")


def _licence(source: Path) -> str:
    """What the manifest says of the weights' licence: the source's own word, else HoloCine's."""
    if (source / FILE_NAME).is_file():
        return read_manifest(source).licence
    own = source / OWN_LICENCE
    return own.read_text(encoding="utf-8", errors="replace").strip() if own.is_file() else LICENCE


def _check_unpacked(folder: ModelFolder, roles: Sequence[str]) -> None:
    """A model repacked as it was can be converted again; what was quantized once cannot be made good."""
    if not (folder.path / FILE_NAME).is_file():
        return
    components = read_manifest(folder.path).components
    stored = {tensor.scheme for role in roles for tensor in components[role].tensors.values()} - {PLAIN, "bf16"}
    if stored:
        raise CheckpointError(
            f"{folder.path}: was converted to {' and '.join(sorted(stored))} already; give the folder with the "
            "released files, or one converted to bf16"
        )


def tool_versions() -> dict[str, str]:
    """Versions of everything that has a say in the bytes of a converted model."""
    tools = {"holo-lite": __version__, "torch": torch.__version__}
    for package in ("bitsandbytes", "optimum-quanto", "gguf"):
        try:
            tools[package] = version(package)
        except PackageNotFoundError:
            tools[package] = "not installed"
    return tools


def _component(role: str, folder: ModelFolder, recipe: Recipe, loras: Sequence[Lora]) -> ComponentPlan:
    if role == "vae":
        inputs = _vae(folder.vae)
    elif role == "text_encoder":
        inputs = _text_encoder(folder.text_encoder)
    else:
        inputs = _expert(getattr(folder, role), loras)
    return plan_component(role, inputs, recipe)


def _expert(path: Path, loras: Sequence[Lora]) -> Inputs:
    file = open_weights(path)
    source = Source(file, loras=loras)
    config, order = describe_expert(source, expert_config(file) if isinstance(file, ConvertedFile) else None)
    return Inputs(source, dataclasses.asdict(config), order)


def _text_encoder(path: Path) -> Inputs:
    source = Source(open_weights(encoder_file(path)), module_names)
    sizes, order = describe_text_encoder(source)
    return Inputs(source, dataclasses.asdict(sizes), (EMBEDDING, *order))


def _vae(path: Path) -> Inputs:
    config, file = open_vae(path)
    source = Source(file, diffusers_names)
    order = tuple(source.entries)
    return Inputs(source, dataclasses.asdict(config), order, plain_dtype=None, single_file=DIFFUSERS_WEIGHTS)


def _check_parts(components: Mapping[str, ComponentPlan]) -> None:
    """The experts must be of one model, and read what the text encoder writes."""
    high, low, text = (components.get(role) for role in ("high_noise", "low_noise", "text_encoder"))
    if high and low and high.config != low.config:
        raise CheckpointError(
            f"{low.source.path}: has other sizes than {high.source.path.name}; use one model's files"
        )
    if high and text and high.config["text_dim"] != text.config["d_model"]:
        raise CheckpointError(
            f"{text.source.path}: gives rows of {text.config['d_model']} numbers, the experts read "
            f"{high.config['text_dim']}; use the text encoder the experts came with"
        )


def _files(components: Iterable[ComponentPlan]) -> Iterator[Path]:
    """The files a model is read from, for the record: those of each component, an index and its shards."""
    for component in components:
        file = component.source.file
        if not isinstance(file, ConvertedFile):
            yield file.path
        if isinstance(file, ConvertedFile | ShardedFile):
            yield from file.shard_paths


def _extras(folder: ModelFolder, components: Iterable[ComponentPlan]) -> dict[str, bytes]:
    """Small files that go along: the tokenizer, and the VAE's configuration."""
    extras = {"tokenizer.json": read_bytes(folder.tokenizer)}
    for component in components:
        if component.role == "vae":
            config = {"_class_name": VAE_NAME, **component.config}
            extras["vae/config.json"] = (json.dumps(config, indent=1) + "\n").encode()
    return extras


def _describe(lora: Lora) -> str:
    return f"{lora.path.name}:{lora.strength:g}"
