"""What to say about PyTorch, the driver and the graphics card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from holo_lite.doctor.facts import CardFacts, DriverFacts, MachineFacts, SystemFacts, TorchFacts, Trouble, Version
from holo_lite.doctor.finding import Diagnosis, fix, note, ok, pip, unseen
from holo_lite.plan.machine import Machine
from holo_lite.plan.profile import GIB
from holo_lite.system.bf16 import INSTEAD, has_bf16, without_bf16

CUDA_INDEX = "--index-url https://download.pytorch.org/whl/cu130"
CUDA_BUILD = pip("--force-reinstall torch", CUDA_INDEX)
DRIVERS = "https://www.nvidia.com/drivers"
NEEDS_DRIVER: Mapping[int, str] = {12: "525", 13: "580"}  # NVIDIA, CUDA Compatibility: minor versions
NEWEST_CUDA = max(NEEDS_DRIVER)
HELD_BY_OTHERS = 0.25  # of a card; the desktop takes a few percent

# From 9.8 on cuDNN gave wrong results for bf16 convolutions in 3D (pytorch/pytorch#163539). PyTorch 2.9.1 and later
# go round every version before 9.15, by a way that takes many times the memory (#166643) and time (#168167).
BAD_CUDNN = range(90800, 91500)

# In 536.40 the Windows driver began to put into main memory what the card has no room for; since 546.01 that can be
# switched off (NVIDIA, answer 5490: "System Memory Fallback for Stable Diffusion").
FALLS_BACK, CAN_BE_TOLD = 536.40, 546.01
NO_FALLBACK = (
    "NVIDIA Control Panel, Manage 3D settings, Program Settings of this python.exe, CUDA - Sysmem Fallback Policy: "
    "Prefer No Sysmem Fallback"
)


def judge_torch(s: MachineFacts) -> Iterator[Diagnosis]:
    """PyTorch's build, and whether it sees the cards there are."""
    torch, seen = s.torch, s.nvidia if isinstance(s.nvidia, DriverFacts) else DriverFacts()
    if isinstance(torch, Trouble):
        plain = pip("--force-reinstall torch")
        yield fix("PyTorch", f"does not load: {torch.said}", CUDA_BUILD if seen.cards else plain)
    elif torch.cards and torch.rocm:
        yield note(
            "PyTorch", f"{torch.version} for ROCm: holo-lite is made for CUDA and has not been tried with it"
        )
    elif torch.cards:
        yield ok("PyTorch", f"{torch.version} for CUDA {torch.cuda}")
    else:
        yield _no_card(torch, seen, s.system)


def _no_card(torch: TorchFacts, seen: DriverFacts, system: SystemFacts | Trouble) -> Diagnosis:
    """Why PyTorch sees no card: there is none, or something is between them."""
    cards, version = ", ".join(seen.cards), torch.version
    if seen.trouble:
        return fix("driver", seen.trouble, f"restart the computer, or install the driver again from {DRIVERS}")
    if not seen.cards:
        return note("PyTorch", f"{version}; no NVIDIA card here, so everything runs on the CPU, very slowly")
    if not seen.driver:
        return fix("driver", f"{cards} has no driver", f"install it from {DRIVERS}, then restart")
    if torch.cuda is None:
        return fix("PyTorch", f"{version} computes on the CPU only, although there is {cards}", _build_for(seen))
    hidden = {} if isinstance(system, Trouble) else system.variables
    if (chosen := hidden.get("CUDA_VISIBLE_DEVICES")) is not None:
        return fix("PyTorch", f"CUDA_VISIBLE_DEVICES='{chosen}' hides {cards}", "unset CUDA_VISIBLE_DEVICES")
    if _too_old(seen, int(torch.cuda.split(".")[0])):
        return fix(
            "driver", f"{seen.driver} is too old for PyTorch {version}", _update(int(torch.cuda.split(".")[0]))
        )
    return fix("PyTorch", f"{version} cannot use {cards}: {torch.refusal}", f"restart, or update from {DRIVERS}")


def _too_old(seen: DriverFacts, major: int) -> bool:
    """Whether a driver cannot run programs for that CUDA. It runs all of its own major version."""
    return seen.cuda is not None and seen.cuda[0] < major


def _build_for(seen: DriverFacts) -> str:
    return f"{_update(NEWEST_CUDA)}; then {CUDA_BUILD}" if _too_old(seen, NEWEST_CUDA) else CUDA_BUILD


def _update(major: int) -> str:
    needed = NEEDS_DRIVER.get(major)
    return (
        f"update the NVIDIA driver to {needed} or newer from {DRIVERS}" if needed else f"update it from {DRIVERS}"
    )


def judge_driver(s: MachineFacts) -> Iterator[Diagnosis]:
    """The driver, where PyTorch gets on with it."""
    if isinstance(s.nvidia, Trouble):
        yield unseen("driver", s.nvidia.said)
    elif s.nvidia.driver and isinstance(s.torch, TorchFacts) and s.torch.cards:
        cuda = f", runs CUDA up to {s.nvidia.cuda[0]}.{s.nvidia.cuda[1]}" if s.nvidia.cuda else ""
        yield ok("driver", f"{s.nvidia.driver}{cuda}")


def judge_card(s: MachineFacts) -> Iterator[Diagnosis]:
    """The card a run would take: whether PyTorch has code for it, and how much of its memory is free."""
    if isinstance(s.torch, Trouble) or not s.torch.cards:
        return
    card = s.torch.cards[0]
    dotted = ".".join(map(str, card.capability))
    if not has_code(card, s.torch.codes):
        newest = max(map(_capability, s.torch.codes), default=(0, 0))
        yield fix(
            "card",
            f"PyTorch {s.torch.version} has no code for {card.name} (compute capability {dotted})",
            CUDA_BUILD
            if card.capability > newest
            else "use --device cpu: today's PyTorch no longer supports this card",
        )
        return
    if not has_bf16(card.capability) and s.torch.rocm is None:
        yield fix("card", f"{card.name} {without_bf16(card.capability)}", INSTEAD)
    yield from _free(card.name, s.machine)


def has_code(card: CardFacts, codes: tuple[str, ...]) -> bool:
    """Whether a build runs on a card: it has code for its generation, or such as the driver can translate.

    Without any codes nothing is known, and it is taken to.
    """
    same = (c for c in codes if c.startswith("sm_") and _capability(c)[0] == card.capability[0])
    translatable = (c for c in codes if c.startswith("compute_"))
    return (
        not any(c.startswith("sm_") for c in codes)
        or any(_capability(code) <= card.capability for code in same)
        or any(_capability(code) <= card.capability for code in translatable)
    )


def _capability(code: str) -> Version:
    """``sm_120a`` is (12, 0)."""
    digits = re.sub(r"\D", "", code)
    return (int(digits[:-1]), int(digits[-1])) if len(digits) > 1 else (0, 0)


def _free(name: str, machine: Machine | Trouble) -> Iterator[Diagnosis]:
    if isinstance(machine, Trouble):
        yield fix("card", f"{name}: {machine.said.partition('; ')[0]}", "close other programs that use the card")
    elif machine.card is not None and machine.free is not None:
        said = f"{name}, {machine.free / GIB:.1f} of {machine.card / GIB:.1f} GiB free"
        if machine.free < (1 - HELD_BY_OTHERS) * machine.card:
            yield note("card", said, "close other programs that use the card, browsers among them")
        else:
            yield ok("card", said)


def judge_cudnn(s: MachineFacts) -> Iterator[Diagnosis]:
    """A cuDNN that is bad at the VAE's convolutions."""
    if isinstance(s.torch, Trouble) or not s.torch.cards or s.torch.cudnn is None:
        return
    version = s.torch.cudnn
    name = f"{version // 10000}.{version % 10000 // 100}.{version % 100}"
    if version in BAD_CUDNN:
        yield fix("cuDNN", f"{name} needs much time and memory for bf16 convolutions (decoding)", better_cudnn(s))
    else:
        yield ok("cuDNN", name)


def better_cudnn(s: MachineFacts) -> str:
    """How to get a better cuDNN. On Windows it comes within PyTorch."""
    cuda = s.torch.cuda if isinstance(s.torch, TorchFacts) else None
    if cuda is None or (isinstance(s.system, SystemFacts) and s.system.name == "Windows"):
        return pip("--upgrade torch", CUDA_INDEX)
    return pip(f'--upgrade "nvidia-cudnn-cu{cuda.split(".")[0]}>=9.15.1"')


def judge_windows(s: MachineFacts) -> Iterator[Diagnosis]:
    """The Windows driver's habit of taking main memory for the card's. No program can ask how it is set."""
    if isinstance(s.system, Trouble) or s.system.name != "Windows":
        return
    if isinstance(s.torch, Trouble) or not s.torch.cards or isinstance(s.nvidia, Trouble):
        return
    match = re.match(r"\d+\.\d+", s.nvidia.driver)
    driver = float(match[0]) if match else CAN_BE_TOLD
    if driver >= FALLS_BACK:
        update = "" if driver >= CAN_BE_TOLD else f"update the driver to {CAN_BE_TOLD} or newer; then "
        yield note(
            "Windows",
            "the driver moves what does not fit on the card to main memory, at a fraction of the speed; holo-lite "
            "uses only what is free when it starts, but other programs may take some of that later",
            update + NO_FALLBACK,
        )
    if not s.nvidia.by_nvml:
        yield note("Windows", "CUDA does not see the memory that other programs use", pip("nvidia-ml-py"))
