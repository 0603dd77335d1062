"""What a person would use instead: diffusers' WanTransformer3DModel, as `from_pretrained` would leave it.

The same shape, built without memory and filled with random numbers: bf16, but for the modules that diffusers keeps
in fp32. Its attention is dense over the whole clip and without text windows; it has no other. Whole on the device,
or with its own group offloading, a block at a time on a stream of its own; plain, or its linear layers in
bitsandbytes' nf4. Its pipeline runs guidance branches one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import BitsAndBytesConfig, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor

from benchmarks.speed.scale import Inputs
from benchmarks.speed.weights import fill_random, random_weight
from holo_lite.config import PATCH, DiTConfig

Weights = Literal["plain", "nf4"]


@dataclass(frozen=True)
class Way:
    """How diffusers is used: its weights' format, and whether it offloads them."""

    weights: Weights = "plain"
    offload: bool = False


def step(model: Any, inputs: Inputs) -> list[Tensor]:
    """Velocity (16, F, h, w) of every guidance branch, one forward after the other, without gradients as there."""
    dtype, time = model.patch_embedding.weight.dtype, inputs.timestep[None]
    with torch.inference_mode(mode=False), torch.no_grad():
        latents = inputs.latents[None].to(dtype)
        return [model(latents, time, prompt.rows[None], return_dict=False)[0][0] for prompt in inputs.prompts]


def build(config: DiTConfig, device: torch.device, dtype: torch.dtype, way: Way) -> Any:
    """The model, ready to run. Where it offloads, weights are made on the host and stay there."""
    place = torch.device("cpu") if way.offload else device
    model = skeleton(config)
    if way.weights == "nf4":
        quantized(model, device, dtype)
    fill_random(model, device, lambda name: kept_dtype(name, dtype), keep_on=place)
    size = (1, PATCH, PATCH)
    model.rope = WanRotaryPosEmbed(config.head_dim, size, model.config.rope_max_seq_len).to(place)
    model.eval()
    if way.offload:
        offloaded(model, device)
    return model


def skeleton(config: DiTConfig) -> Any:
    """The model without memory."""
    with torch.device("meta"):
        return WanTransformer3DModel(
            num_attention_heads=config.num_heads,
            attention_head_dim=config.head_dim,
            in_channels=config.in_dim,
            out_channels=config.out_dim,
            text_dim=config.text_dim,
            freq_dim=config.freq_dim,
            ffn_dim=config.ffn_dim,
            num_layers=config.num_layers,
            eps=config.eps,
        )


def kept_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype that `from_pretrained(torch_dtype=dtype)` gives a parameter."""
    parts = name.split(".")
    kept = any(module in parts for module in WanTransformer3DModel._keep_in_fp32_modules)
    return torch.float32 if kept else dtype


def quantized(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Put bitsandbytes' layers in place, as `BitsAndBytesConfig(load_in_4bit=True)` does, with random weights."""
    from bitsandbytes.nn import Linear4bit  # which plain weights do without
    from diffusers.quantizers.bitsandbytes.utils import replace_with_bnb_linear

    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    keep = list(WanTransformer3DModel._keep_in_fp32_modules)
    replace_with_bnb_linear(model, modules_to_not_convert=keep, quantization_config=settings)
    generator = torch.Generator(device).manual_seed(1)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            _fill_4bit(module, generator, dtype)


def _fill_4bit(module: Any, generator: torch.Generator, dtype: torch.dtype) -> None:
    from bitsandbytes.nn import Params4bit

    old = module.weight
    weight = random_weight("weight", old.shape, generator, dtype)
    module.weight = Params4bit(weight, **{**old.__dict__, "requires_grad": False}).to(generator.device)


def offloaded(model: Any, device: torch.device) -> None:
    """diffusers' group offloading, a block at a time, on a stream where the device has such."""
    model.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )
