"""The umt5-xxl text encoder, without its vocabulary in memory.

The network is transformers' `UMT5EncoderModel`; `holo_lite.text.encoder_files` finds its weights.

A fifth of the file, 2 GB in bf16, is the token embedding; a prompt's rows of it are looked up in the file
(`holo_lite.text.embedding`).

Padding is never computed. The encoder masks it, so the real tokens' rows do not depend on it, and the
transformer gets zeros there anyway (`pad_rows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holo_lite.cancel import Cancel
from holo_lite.config import TEXT_ROWS
from holo_lite.errors import CheckpointError
from holo_lite.model.linear import pack_linears
from holo_lite.streaming.blocks import BlockStream
from holo_lite.streaming.disk import Witness, nobody
from holo_lite.streaming.hooks import GateHook, hook, install
from holo_lite.streaming.image import network_images
from holo_lite.text.embedding import Embedding
from holo_lite.text.encoder_files import WHAT, encoder_file, open_encoder
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.calls import PlacedFile
from holo_lite.weights.converted import packed_schemes
from holo_lite.weights.files import open_weights
from holo_lite.weights.fill import check, fill

BLOCKS = "encoder.block"


class TextEncoder:
    """Token ids to text embeddings. `load` it; it computes in one dtype on one device."""

    def __init__(
        self,
        module: Any,
        embedding: Embedding,
        *,
        dtype: torch.dtype,
        device: torch.device,
        blocks: BlockStream | None = None,
    ) -> None:
        self._module = module
        self._stream = blocks
        self._embedding = embedding
        self.dtype = dtype
        self.device = device

    @classmethod
    def load(cls, path: Path, *, dtype: torch.dtype, device: torch.device) -> TextEncoder:
        """Load a ``.pth``, a safetensors file, a shard index or a diffusers ``text_encoder/`` folder.

        Raises `CheckpointError`, as `check_text_encoder` does, before any tensor is read.
        """
        source = open_encoder(path)
        module = _build(source.sizes, packed_schemes(source.layers.file))
        fill(module, source.layers, source.renames, dtype=dtype, device=device, what=WHAT)
        return cls(module, Embedding(source.layers.file, source.embedding), dtype=dtype, device=device)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        dtype: torch.dtype,
        device: torch.device,
        pinned: bool = True,
        cancel: Cancel | None = None,
        witness: Witness = nobody,
    ) -> TextEncoder:
        """Stream an encoder if its file allows it, else load it whole. Raises as `stream`."""
        if isinstance(open_weights(encoder_file(path)), PlacedFile):
            return cls.stream(path, dtype=dtype, device=device, pinned=pinned, cancel=cancel, witness=witness)
        encoder, gate = cls.load(path, dtype=dtype, device=device), GateHook((cancel or Cancel()).check)
        for block in encoder.blocks:
            hook(block, gate)
        return encoder

    @classmethod
    def stream(
        cls,
        path: Path,
        *,
        dtype: torch.dtype,
        device: torch.device,
        pinned: bool = True,
        cancel: Cancel | None = None,
        witness: Witness = nobody,
    ) -> TextEncoder:
        """Open an encoder whose blocks come to the device one after the other; `close` it.

        Once somebody has cancelled by the token `cancel`, no block's forward begins: `encode` raises `Cancelled`.
        `witness` is shown what is read of the blocks.
        Takes what `load` takes but pickles and GGUF, whose tensors cannot be read in place. Raises as `load`, and
        `PinError` if host memory for blocks on their way is to be `pinned` and the system refuses.
        """
        source = open_encoder(path)
        module = _build(source.sizes, packed_schemes(source.layers.file))
        check(module, source.layers, source.renames, what=WHAT)
        rest = [name for name, own in source.renames.items() if not own.startswith(f"{BLOCKS}.")]
        tensors = {source.renames[name]: source.layers.load(name).to(device) for name in rest}
        install(module, tensors, dtype)
        images = network_images(source.layers.file, source.renames, BLOCKS, source.sizes.layers)
        blocks = BlockStream(
            module.encoder.block,
            images.blocks,
            dtype=dtype,
            device=device,
            pinned=pinned,
            cancel=cancel,
            witness=witness,
        )
        return cls(
            module, Embedding(source.layers.file, source.embedding), dtype=dtype, device=device, blocks=blocks
        )

    def close(self) -> None:
        """Give back what streaming holds."""
        if self._stream is not None:
            self._stream.close()

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, in the order in which they run."""
        blocks: nn.ModuleList = self._module.encoder.block
        return blocks

    @torch.no_grad()
    def encode(self, ids: Sequence[int]) -> Tensor:
        """Encode n token ids, the end-of-sequence token included and no padding, as (n, d_model).

        Raises `CheckpointError` for an id that the embedding lacks: tokenizer and encoder do not match.
        """
        if max(ids) >= self._embedding.rows:
            raise CheckpointError(
                f"the tokenizer gives id {max(ids)}, but the text encoder knows {self._embedding.rows} tokens; "
                "take both from the same model"
            )
        rows = self._embedding.look_up(ids).to(device=self.device, dtype=self.dtype)
        encoded: Tensor = self._module(inputs_embeds=rows[None]).last_hidden_state
        return encoded[0]


def pad_rows(rows: Tensor, length: int = TEXT_ROWS) -> Tensor:
    """Append zeros to (n, d), n ≤ `length`, up to (length, d): the transformer sees padding as zeros."""
    assert len(rows) <= length, f"{len(rows)} rows do not fit {length}"
    return functional.pad(rows, (0, 0, 0, length - len(rows)))


def _build(sizes: EncoderSizes, schemes: Mapping[str, str]) -> Any:
    """The network without memory, and without an embedding: it is fed with rows, not ids."""
    from transformers import UMT5Config, UMT5EncoderModel  # seconds, which a known prompt need not wait for

    config = UMT5Config(
        vocab_size=sizes.vocabulary,
        d_model=sizes.d_model,
        d_ff=sizes.d_ff,
        d_kv=sizes.d_kv,
        num_heads=sizes.heads,
        num_layers=sizes.layers,
        relative_attention_num_buckets=sizes.buckets,
    )
    with torch.device("meta"):
        module = UMT5EncoderModel(config)
        module.set_input_embeddings(nn.Identity())
        pack_linears(module, schemes)
    return module.eval()
