"""What is at a path, described for a person: first what it is in words, then facts, then what to do with it.

Returns lines; printing them is the command line's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from holo_lite.config import Attention
from holo_lite.inspection import (
    caches,
    checkpoints,
    configs,
    conversions,
    files,
    latents,
    loras,
    models,
    runs,
    storyboards,
    videos,
)
from holo_lite.inspection.kinds import Kind
from holo_lite.inspection.recognition import what_is
from holo_lite.tiny.model import is_name, tiny_model

DESCRIBED: Mapping[Kind, Callable[[Path], Iterator[str]]] = {
    "storyboard": storyboards.storyboard,
    "prompt": storyboards.prompt,
    "video": videos.video,
    "video settings": videos.video_settings,
    "picture": videos.picture,
    "run": runs.run,
    "run state": runs.run_state,
    "step cache": runs.step_cache,
    "model folder": models.model_folder,
    "several models": models.several_models,
    "converted model": models.converted_model,
    "model part": models.model_part,
    "block file": conversions.block_file,
    "conversion report": conversions.conversion_report,
    "interrupted conversion": conversions.interrupted_conversion,
    "recipe": conversions.recipe,
    "profile": configs.profile,
    "checkpoint": checkpoints.checkpoint,
    "LoRA": loras.lora,
    "LoRA settings": loras.lora_settings,
    "latents": latents.latents,
    "kept latents": latents.kept_latents,
    "encoded prompt": latents.encoded_prompt,
    "tokenizer": configs.tokenizer,
    "expert sizes": configs.expert_sizes,
    "model defaults": configs.model_defaults,
    "library config": configs.library_config,
    "cache table": caches.cache_table,
    "missing": files.missing,
    "unknown": files.unknown,
}


def inspect(path: Path, attention: Attention | None = None) -> Iterator[str]:
    """Describe what is at `path`, a line at a time. Raises the `HoloError` of its kind.

    The built-in model is found by its name. `attention` says whether a folder's experts are sparse or dense, where
    their names do not.
    """
    if is_name(path):
        path = tiny_model()
    kind = what_is(path, attention)
    asked = {
        "model folder": partial(models.model_folder, attention=attention),
        "several models": partial(models.several_models, attention=attention),
    }
    return asked.get(kind, DESCRIBED[kind])(path)
