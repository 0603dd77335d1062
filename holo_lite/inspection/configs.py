"""Small files: tokenizers, configurations, profiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from holo_lite.config import FIXED, DiTConfig
from holo_lite.errors import CheckpointError, RecordError
from holo_lite.inspection.lines import do, fact, length
from holo_lite.plan.profile import Profile, find_profile
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import parse_json
from holo_lite.system.units import memory_text

FOR_PEOPLE = 80  # characters of a value that is shown


def tokenizer(path: Path) -> Iterator[str]:
    """A vocabulary. Raises `CheckpointError`."""
    from holo_lite.text.vocabulary import UMT5_TOKENS, is_umt5
    from holo_lite.text.windows import open_tokenizer

    opened = open_tokenizer(path)
    size = opened.get_vocab_size()
    yield f"tokenizer: a vocabulary of {size} tokens"
    if is_umt5(opened):
        yield fact("whose", "umt5's, which the text encoder of HoloCine and Wan 2.2 needs")
    else:
        yield fact("whose", f"not umt5's, which has {UMT5_TOKENS}; it only fits a text encoder trained with it")
    yield do("count a storyboard's tokens with it", "check", "STORYBOARD", "--tokenizer", path)


def profile(path: Path) -> Iterator[str]:
    """What a machine may spend. Raises `SettingsError`."""
    found = find_profile(str(path))
    on = f"a card of {memory_text(found.card)}" if found.device == "cuda" else "a CPU"
    yield f"profile: what a run may use on {on}"
    yield from _profile_facts(found)
    yield do("what a storyboard needs with it", "plan", "STORYBOARD", "--profile", path)


def _profile_facts(found: Profile) -> Iterator[str]:
    if found.device == "cuda":
        spoken = f"{memory_text(found.context)} for CUDA, {memory_text(found.desktop)} for the desktop"
        yield fact("budget", f"{memory_text(found.card - found.headroom)}, without {spoken}")
    else:
        yield fact("budget", "the main memory that is free when a run starts")
    yield fact("spare", f"{found.spare_percent} % of what is planned")
    yield fact("pinned", f"at most {memory_text(found.pinned)} of main memory for weights")
    yield fact("schemes", f"{', '.join(found.schemes)} (the first suits best)")
    rungs = [f"{chunks.attention}/{chunks.feed_forward}" for chunks in found.rungs]
    yield fact("chunks", f"{', '.join(rungs)} tokens at once in attention/feed-forward, the first that fits")
    yield fact("choices", f"guidance {found.cfg}, {found.slots} slots for blocks on the way, tiling {found.tiling}")


def expert_sizes(path: Path) -> Iterator[str]:
    """A ``dit_config.json``. Raises `CheckpointError`."""
    found = _table(path)
    known = {name: value for name, value in found.items() if name in {*DiTConfig.__dataclass_fields__, *FIXED}}
    yield "sizes of an expert: what its tensors do not show, for the weights next to it"
    yield from (fact(name, _short(value)) for name, value in known.items())
    yield from (fact("unknown", f"{name}, which no expert has") for name in found.keys() - known.keys())
    yield do("see what its folder holds", "inspect", path.parent)


def model_defaults(path: Path) -> Iterator[str]:
    """A ``defaults.json``. Raises `CheckpointError`."""
    from holo_lite.weights.folder import read_defaults

    found = read_defaults(path)
    yield f"defaults of a model: {length(found.frames, found.fps)}, {found.width}×{found.height}"
    yield fact("sampling", f"{found.steps} steps, guidance {found.cfg:g}")
    yield fact("negative", found.negative)
    yield do("see what its folder holds", "inspect", path.parent)


def library_config(path: Path) -> Iterator[str]:
    """A ``config.json`` of diffusers or transformers. Raises `CheckpointError`."""
    found = _table(path)
    name = found.get("_class_name") or found.get("model_type") or found.get("architectures")
    yield f"configuration of one network: {_short(name)}"
    if name == "AutoencoderKLWan":
        yield from _vae(path)
    yield do("see what its folder holds", "inspect", path.parent)


def _vae(path: Path) -> Iterator[str]:
    from holo_lite.film.vae_files import vae_config_of

    width = vae_config_of(path).base_dim
    yield fact("whose", f"the Wan 2.1 VAE's, width {width}{'' if width == 96 else ' (the released one has 96)'}")


def _table(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON ({_why(error)}); fix or remove it") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is not a JSON table; fix or remove it")
    return found


def _why(error: ValueError) -> str:
    return str(error) if isinstance(error, RecordError) else "damaged"


def _short(value: object) -> str:
    return f"{value!s:.{FOR_PEOPLE}}"
