"""Everything a run may use, run on a small input: whether it is installed says little about whether it works.

A trial gives a `DoctorTrial`, or raises whatever the library raises. It computes on the card if there is one, as a
run would, and compares with the plain way.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from holo_lite.doctor.facts import DoctorTrial

if TYPE_CHECKING:
    import torch

    from holo_lite.eightbit.rows import Format

WEIGHT = (256, 1024)
FRAMES = 5
HAS_FP8 = (8, 9)  # Ada
CLOSE = 2**-6  # relative error of a few roundings to bf16; a wrong layout or index gives about 1


def _device() -> torch.device:
    from holo_lite.system.device import pick_device

    return pick_device("auto")


def _noise(*shape: int) -> torch.Tensor:
    import torch

    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return numbers.to(_device(), torch.bfloat16)


def _off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def scheme(name: str) -> DoctorTrial:
    """Pack a small weight and unpack it: the error must be the scheme's."""
    import torch

    from holo_lite.schemes.registry import find

    packing, weight = find(name), _noise(*WEIGHT)
    back = packing.unpack(packing.pack(weight), WEIGHT, torch.float32)
    error = _off(back, weight)
    if not error <= packing.error_bound:  # true of NaN, too
        return DoctorTrial(
            name,
            "scheme",
            "broken",
            f"a weight comes back {error:.3g} of its size off, at most {packing.error_bound} is expected",
        )
    return DoctorTrial(name, "scheme", "works", f"error {error:.4f} on {weight.device.type}")


def attention(name: str) -> DoctorTrial:
    """Compute a little attention with a kernel, and compare with SDPA in fp32."""
    import torch

    from holo_lite.kernels.kernel import Site
    from holo_lite.kernels.registry import KERNELS
    from holo_lite.kernels.trial import SMALL, KernelTrial as Rows, attempt

    site = Site.of(_device(), torch.bfloat16, heads=4, head_dim=128)
    (kernel,) = (each for each in KERNELS if each.name == name)
    if (refusal := kernel.refusal(site)) is not None:
        return DoctorTrial(name, "attention", "not here", refusal)
    with torch.inference_mode():
        tried = attempt(kernel, Rows.of(site, SMALL))
    if isinstance(tried, str):
        return DoctorTrial(name, "attention", "broken", tried)
    return DoctorTrial(name, "attention", "works", f"error {tried.error:.4f}")


def eight_bit(name: str) -> DoctorTrial:
    """Multiply in 8 bits on the device, and compare with the same codes multiplied plainly on the CPU."""
    import torch

    from holo_lite.eightbit.coding import quantize
    from holo_lite.eightbit.product import multiply, off, reference
    from holo_lite.eightbit.rows import FORMATS

    form = FORMATS["fp8" if name == "fp8" else "int8"]
    if (refusal := _no_eight_bits(form)) is not None:
        return DoctorTrial(name, "8-bit", "not here", refusal)
    x, weight = _noise(64, 128), _noise(96, 128)
    with torch.inference_mode():
        found = multiply(quantize(x, form), quantize(weight, form), None).cpu()
        expected = reference(quantize(x.cpu(), form), quantize(weight.cpu(), form), None)
    error = off(found, expected)
    if not error <= CLOSE:
        return DoctorTrial(
            name, "8-bit", "broken", f"a product is {error:.2g} of its size off, rounding explains {CLOSE:.2g}"
        )
    return DoctorTrial(name, "8-bit", "works", f"on {x.device.type}")


def _no_eight_bits(form: Format) -> str | None:
    """Why a card does not multiply in a format, where that is known. A CPU does in all, as a reference."""
    import torch

    from holo_lite.eightbit.coding import has_triton
    from holo_lite.eightbit.product import runs_row_by_row
    from holo_lite.eightbit.rows import FP8

    device = _device()
    if device.type != "cuda":
        return None
    if form == FP8 and torch.cuda.get_device_capability(device) < HAS_FP8:
        return f"it needs a card of compute capability {HAS_FP8[0]}.{HAS_FP8[1]} or later"
    if not has_triton() and not (form == FP8 and runs_row_by_row(device)):
        return "it needs the package triton, which is not installed"
    return None


def fused() -> DoctorTrial:
    """The fused operations that a run here would use, compared with the equations."""
    import torch

    from holo_lite.kernels.fused import TrialInputs, first_wrong, pick_ops

    device = _device()
    ops, kind, why = pick_ops("auto", device)
    if kind == "off":
        return DoctorTrial("fused", "fused", "not here", why.partition(": ")[2])
    with torch.inference_mode():
        wrong = first_wrong(ops, TrialInputs(40, device, torch.bfloat16, 256, 4), None)
    if wrong is not None:
        return DoctorTrial("fused", "fused", "broken", wrong)
    return DoctorTrial("fused", "fused", "works", kind)


def conv3d() -> DoctorTrial:
    """A convolution like the VAE's, in bf16, compared with fp32."""
    import torch
    import torch.nn.functional as F

    x, weight = _noise(1, 16, 6, 20, 36), _noise(16, 16, 3, 3, 3)
    with torch.inference_mode():
        error = _off(F.conv3d(x, weight, padding=1), F.conv3d(x.float(), weight.float(), padding=1))
    if not error <= CLOSE:
        return DoctorTrial(
            "conv3d", "conv3d", "broken", f"in bf16 it is {error:.2g} of its size off on {x.device.type}"
        )
    return DoctorTrial("conv3d", "conv3d", "works", f"error {error:.4f} on {x.device.type}")


def compiled() -> DoctorTrial:
    """Compile a small function and run it."""
    import torch

    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes for one function
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # what was compiled before would prove nothing
        x = _noise(64, 64)
        error = _off(torch.compile(_gelu_and_scale)(x), _gelu_and_scale(x))
    if not error <= CLOSE:
        return DoctorTrial("torch.compile", "compile", "broken", f"its result is {error:.2g} of its size off")
    return DoctorTrial("torch.compile", "compile", "works", f"on {x.device.type}")


def _gelu_and_scale(x: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as F

    return F.gelu(x, approximate="tanh") * x.float().mean().to(x.dtype)


def video() -> DoctorTrial:
    """Write a small mp4 as a run does, and read it."""
    import torch

    from holo_lite.film.video import VideoWriter, probe

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.mp4"
        with VideoWriter(path, width=64, height=48, fps=15) as writer:
            for index in range(FRAMES):
                writer.add(torch.full((48, 64, 3), 40 * index, dtype=torch.uint8))
        frames = probe(path).frames
    if frames != FRAMES:
        return DoctorTrial("mp4", "video", "broken", f"of {FRAMES} frames {frames} were written")
    return DoctorTrial("mp4", "video", "works", "H.264 by libx264")
