"""The many names of one network.

The released files name the transformer's tensors as this project does. Other tools save the same numbers with
a prefix before every name, or under the names of diffusers, where ``blocks.0.self_attn.q`` is
``blocks.0.attn1.to_q``, and where even ``norm3`` is called ``norm2``, because there the norms are counted in
the order in which they run. Adapters add a third way: dots written as underscores, which only a list of what
a block holds can undo.

The tables below are all there is to it. `tests/model/test_diffusers_agreement.py` proves them: it lets diffusers
compute with its own names and compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# The linear layers of the blocks of either network, which schemes are for; everything else is not packed.
LINEARS = re.compile(
    r"blocks\.\d+\.(self_attn|cross_attn)\.[qkvo]\.weight"
    r"|blocks\.\d+\.ffn\.[02]\.weight"
    r"|encoder\.block\.\d+\.layer\.0\.SelfAttention\.[qkvo]\.weight"
    r"|encoder\.block\.\d+\.layer\.1\.DenseReluDense\.(wi_0|wi_1|wo)\.weight"
)
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "transformer.")
IN_BLOCK = {  # diffusers' names within a block, to ours
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}
OUTSIDE = {  # and outside the blocks
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "scale_shift_table": "head.modulation",
    "patch_embedding": "patch_embedding",
}
BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
FLAT_BLOCK = re.compile(r"blocks_(\d+)_(.+)")


def own_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names in a transformer's file to the model's own.

    A prefix is removed if all names share it; then diffusers' names become the original ones. An unknown name
    stays unchanged, and so do all of them where two would become one: a comparison of the result with a model
    then reports them under the names in the file.
    """
    listed = list(names)
    bare = _without_prefix(listed)
    own = {name: own_name(short) for name, short in zip(listed, bare, strict=True)}
    return own if len(set(own.values())) == len(own) else {name: name for name in listed}


def own_name(name: str) -> str:
    """Translate one name without prefix, of a tensor or of the module it belongs to."""
    block = BLOCK.fullmatch(name)
    return block[1] + _translate(block[2], IN_BLOCK) if block else _translate(name, OUTSIDE)


def own_name_of_flat(flat: str) -> str:
    """Translate a module's name whose dots were made underscores: ``blocks_0_self_attn_q``, in either naming."""
    block = FLAT_BLOCK.fullmatch(flat)
    if block is None:
        return _unflatten(flat, OUTSIDE)
    return f"blocks.{block[1]}.{_unflatten(block[2], IN_BLOCK)}"


def _without_prefix(names: list[str]) -> list[str]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in names):
            return [name.removeprefix(prefix) for name in names]
    return names


def _translate(name: str, table: Mapping[str, str]) -> str:
    for theirs, ours in table.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return name


def _unflatten(flat: str, table: Mapping[str, str]) -> str:
    for theirs, ours in table.items():
        if flat in (theirs.replace(".", "_"), ours.replace(".", "_")):
            return ours
    return flat
