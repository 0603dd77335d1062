"""Stand-ins for the packages attention kernels come in: their files, names, signatures and returns, over SDPA.

The signatures are those of flash-attn 2.8.3, flash_attn_3 3.0.0 before and after it stopped returning pairs,
flash-attn-4 4.0.0b36, and sageattention 1.0.6 and 2.2.0. Each checks layout and strides as the real one does, and
sageattention 1 writes into the keys it is given, as the real one does.
"""

import importlib.util
import sys

import pytest

COMMON = """
import torch
import torch.nn.functional as F

def over_sdpa(q, k, v, scale=None):
    assert q.dim() == k.dim() == v.dim() == 4 and len(q) == len(k) == len(v), "batches of (b, n, H, D)"
    assert q.shape[2:] == k.shape[2:] and k.shape == v.shape, "heads stand third"
    assert q.dtype == k.dtype == v.dtype
    assert all(rows.stride(-1) == 1 for rows in (q, k, v)), "the last dimension must be contiguous"
    q, k, v = (rows.transpose(1, 2) for rows in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).contiguous()

def per_block(x, rows):
    short = -x.shape[1] % rows
    blocks = F.pad(x, (0, 0, 0, 0, 0, short)).unflatten(1, (-1, rows))
    scale = blocks.abs().amax((2, 4), keepdim=True).clamp(min=1e-9) / 127
    return ((blocks / scale).round() * scale).flatten(1, 2)[:, : x.shape[1]].to(x.dtype)
"""

TWO = """
def flash_attn_func(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
    deterministic=False, return_attn_probs=False,
):
    assert dropout_p == softcap == 0 and not causal and window_size == (-1, -1) and alibi_slopes is None
    out = over_sdpa(q, k, v, softmax_scale)
    return (out, None, None) if return_attn_probs else out
"""

THREE = """
def flash_attn_func(
    q, k, v, softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None,
    window_size=(-1, -1), attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False,
    sm_margin=0, return_attn_probs=False,
):
    assert not causal and qv is None and softcap == attention_chunk == 0 and window_size == (-1, -1)
    out = over_sdpa(q, k, v, softmax_scale)
    return (out, None) if return_attn_probs else out
"""

THREE_EARLY = """
def flash_attn_func(
    q, k, v, softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None,
    window_size=(-1, -1), attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False,
    sm_margin=0,
):
    assert not causal and qv is None and softcap == attention_chunk == 0 and window_size == (-1, -1)
    return over_sdpa(q, k, v, softmax_scale), torch.zeros(q.shape[0], q.shape[2], q.shape[1])
"""

FOUR = """
def flash_attn_func(
    q, k, v, qv=None, gather_kv_indices=None, softmax_scale=None, causal=False, window_size=(None, None),
    learnable_sink=None, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, score_mod=None,
    score_mod_bwd=None, mask_mod=None, aux_tensors=None, aux_scalars=None, block_sparse_tensors=None,
    block_sparse_tensors_bwd=None, return_lse=False, gather_bwd_recompute_p=False, gather_bwd_token_chunk=None,
):
    assert not causal and qv is None and softcap == 0 and window_size == (None, None)
    return over_sdpa(q, k, v, softmax_scale), None
"""

SAGE_ONE = """
def sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, smooth_k=True, **kwargs):
    assert q.size(-1) in [64, 96, 128], "headdim should be in [64, 96, 128]."
    if smooth_k:
        k -= k.mean(dim=1 if tensor_layout == "NHD" else 2, keepdim=True)
    if tensor_layout == "HND":
        return sageattn(*(x.transpose(1, 2) for x in (q, k, v)), "NHD", smooth_k=False).transpose(1, 2)
    return over_sdpa(per_block(q, 128), per_block(k, 64), v, sm_scale)
"""

SAGE_TWO = """
def sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, return_lse=False, **kwargs):
    if q.size(-1) > 128:
        raise ValueError(f"Unsupported head_dim: {q.size(-1)}")
    if tensor_layout == "HND":
        return sageattn(*(x.transpose(1, 2) for x in (q, k, v)), "NHD").transpose(1, 2)
    k = k - k.mean(dim=1, keepdim=True)
    out = over_sdpa(per_block(q, 32), per_block(k, 64), v, sm_scale)
    return (out, None) if return_lse else out
"""

# What each installs: files, then the distribution's name and version.
PACKAGES = {
    "flash-attn-2": ({"flash_attn/__init__.py": "", "flash_attn/flash_attn_interface.py": TWO}, "flash_attn-2.8.3"),
    "flash-attn-3": ({"flash_attn_interface.py": THREE}, "flash_attn_3-3.0.0"),
    "flash-attn-3, early": ({"flash_attn_interface.py": THREE_EARLY}, "flash_attn_3-3.0.0b1"),
    "flash-attn-4": ({"flash_attn/cute/__init__.py": FOUR}, "flash_attn_4-4.0.0b36"),
    "sage": ({"sageattention/__init__.py": SAGE_TWO}, "sageattention-2.2.0"),
    "sage, version 1": ({"sageattention/__init__.py": SAGE_ONE}, "sageattention-1.0.6"),
}
MODULES = ("flash_attn", "flash_attn_interface", "sageattention")


class Shelf:
    """A folder on the path into which packages are put."""

    def __init__(self, folder):
        self.folder = folder

    def put(self, name, spoilt=None):
        """Install one; `spoilt` is what its modules hold instead."""
        files, distribution = PACKAGES[name]
        for file, text in files.items():
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((COMMON + text if spoilt is None else spoilt) if text else "")
        metadata = self.folder / f"{distribution}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        title, version = distribution.split("-")
        metadata.write_text(f"Metadata-Version: 2.1\nName: {title}\nVersion: {version}\n")
        importlib.invalidate_caches()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """None of the real packages, and a place to put stand-ins."""
    installed = [name for name in MODULES if importlib.util.find_spec(name) is not None]
    if installed:
        pytest.skip(f"{installed[0]} is installed")
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield Shelf(folder)
    for name in [name for name in sys.modules if name.split(".")[0] in MODULES]:
        del sys.modules[name]
