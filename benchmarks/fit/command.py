"""Does it fit the card? Every card's plan, run under that card's cap on synthetic weights of the real size.

    python -m benchmarks.fit WORK [--part NAME] [--result benchmarks/results/fit-DEVICE.json]

A card of so many GB is this one with its allocator capped at that size less 1 GiB, which CUDA's context and a
desktop would take. Parts run one after the other, each in a process of its own that is ended after nine minutes;
what is finished stands in the result file and is not run again. With --minutes nothing begins after them, and the
same command goes on. WORK takes 23 GB of disk. A table at the end, then one line of JSON.

Without a card, or with --small, the same code runs every part at a size that takes a CPU seconds. That proves the
code and measures nothing: its result says `"small": true`.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import psutil
import torch

from benchmarks import RESULTS, command
from benchmarks.fit.model import Model, described, write_model
from benchmarks.fit.run import Film, decode, denoise, disk_rate, from_the_disk
from benchmarks.fit.targets import FIRST, table, targets
from benchmarks.resumable import ENDLESS, Clock, Result, Runner, by_worth, chosen, end_with_parent
from benchmarks.timing import slug, warm
from holo_lite.config import DiTConfig
from holo_lite.kernels.computing import ComputeSetup, choose_computing
from holo_lite.kernels.options import ComputeOptions
from holo_lite.model.clip import Chunks
from holo_lite.plan.decoding import Decoder
from holo_lite.plan.fit import make_plan
from holo_lite.plan.machine import Machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.plan.profile import GIB, Profile, find_profile
from holo_lite.plan.released import released_sizes
from holo_lite.plan.search import RING, Problem
from holo_lite.plan.sizes import ModelSizes
from holo_lite.text.encoder_sizes import UMT5_XXL, EncoderSizes

CARDS = (6, 8, 12, 16, 24)
ALIKE = ("small", "device", "torch", "model")


@dataclass(frozen=True)
class Scale:
    """What is run: the model, the clips, and the schemes weights are kept in."""

    small: bool
    model: Model
    films: Mapping[str, Film]
    schemes: tuple[str, ...] = ("nf4", "int8")

    @classmethod
    def full(cls) -> Scale:
        """The released model, and the clips the targets speak of."""
        films = {"five": (241, 5), "one": (241, 1), "minute": (961, 16), "short": (33, 1)}
        return cls(False, Model(), {name: Film(*said, 480, 832) for name, said in films.items()})

    @classmethod
    def tiny(cls) -> Scale:
        """The same with everything small."""
        films = {"five": (21, 5), "one": (21, 1), "minute": (65, 16), "short": (9, 1)}
        model = Model(DiTConfig(512, 4, 1408, 4, text_dim=64, freq_dim=64), vae=4)
        return cls(True, model, {name: Film(*said, 48, 64) for name, said in films.items()})


@dataclass(frozen=True)
class Bench:
    """Where it runs and writes, and at which scale."""

    work: Path
    device: torch.device
    scale: Scale
    clock: Clock

    def say(self, text: str) -> None:
        """Tell what is going on."""
        self.clock.say(text)

    def folder(self, scheme: str) -> Path:
        """The model in a scheme: written now if it is not there."""
        folder = self.work / f"{'small-' if self.scale.small else ''}{scheme}"
        write_model(folder, scheme, self.scale.model, self.say)
        return folder

    def sizes(self, scheme: str) -> ModelSizes:
        """The sizes of the model in a scheme, with a text encoder that is planned for and not run."""
        encoder = EncoderSizes(512, 64, 96, 16, 1, 1, 32) if self.scale.small else UMT5_XXL
        sizes, chosen = released_sizes(scheme, self.scale.model.config, encoder), self.computing(scheme)
        linear, workspace = chosen.compute.linear, chosen.workspace
        return replace(sizes, decoder=Decoder(self.scale.model.vae), linear=linear, workspace=workspace)

    def computing(self, scheme: str) -> ComputeSetup:
        """How the command line would compute with weights in a scheme."""
        return computing(self.scale.model.config, self.device, scheme)

    def denoise(self, film: str, plan: Plan, steps: int) -> dict[str, Any]:
        """Run the first steps of a clip under a plan."""
        compute = self.computing(plan.scheme).compute
        return denoise(
            self.folder(plan.scheme), self.scale.films[film], plan, self.device, steps, self.say, compute
        )

    def request(self, film: str) -> ClipRequest:
        """What a clip asks for."""
        return ClipRequest(self.scale.films[film].settings.layout)

    def budget(self, card: int, sizes: ModelSizes) -> int:
        """A card's size less 1 GiB; at small scale what a clip needs, and a few blocks with every larger card."""
        if not self.scale.small:
            return (card - 1) * GIB
        sums = Problem(profile_for(card, small=True), sizes, self.request("one"), Machine()).arithmetic
        steps = sums.denoise(sizes.high_noise, Chunks(256, 128), RING, joint=True)
        return max(steps, sums.text(RING), sums.decode(None)) + CARDS.index(card) * sizes.slot * 5 // 4

    def plan(self, card: int, film: str, scheme: str | None = None) -> Plan:
        """How a card runs a clip, in the scheme its profile prefers."""
        sizes = self.sizes(scheme or scheme_of(card))
        budget = self.budget(card, sizes)
        profile = profile_for(card, small=self.scale.small)
        ram = psutil.virtual_memory().total
        machine = Machine(
            ram=ram,
            ram_free=budget if self.scale.small else None,
            multiprocessors=multiprocessors(self.device),
        )
        return make_plan(profile, sizes, self.request(film), machine)


def multiprocessors(device: torch.device) -> int | None:
    """How many a card has, after which a plan's chunks go."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else None


@cache
def computing(config: DiTConfig, device: torch.device, scheme: str) -> ComputeSetup:
    """Choose as `holo-lite generate` does where nothing is said. On a card this measures and compiles."""
    return choose_computing(ComputeOptions(), config, device=device, dtype=torch.bfloat16, scheme=scheme)


def scheme_of(card: int) -> str:
    """What a card's profile prefers."""
    return find_profile(f"{card}gb").schemes[0]


def profile_for(card: int, *, small: bool) -> Profile:
    """The card's own profile; at small scale the CPU's with chunks that are small, too."""
    if not small:
        return find_profile(f"{card}gb")
    found = find_profile("cpu")
    chunks = {"largest": Chunks(256, 128), "smallest": Chunks(64, 32)}
    return replace(found, name=f"{card}gb", context=0, desktop=0, spare_percent=0, **chunks)


# --- parts -----------------------------------------------------------------------------------------


def weights(bench: Bench, scheme: str) -> dict[str, Any]:
    """Write the model in a scheme."""
    bench.folder(scheme)
    sizes = bench.sizes(scheme)
    return {"expert_bytes": sizes.high_noise.rest + sizes.high_noise.total, "block_bytes": sizes.high_noise.slot}


def on_card(bench: Bench, card: int, film: str, steps: int) -> dict[str, Any]:
    """A card's own plan for a clip."""
    if (refused := too_small(bench, card)) is not None:
        return refused
    plan = bench.plan(card, film)
    return described_plan(plan) | bench.denoise(film, plan, steps)


def least(bench: Bench, film: str) -> dict[str, Any]:
    """The smallest card without resident blocks and with one branch at a time."""
    plan = bench.plan(6, film)
    bare = replace(plan, resident=0, resident_other=0, joint=False)
    return described_plan(bare) | bench.denoise(film, bare, 1)


def decoded(bench: Bench, card: int) -> dict[str, Any]:
    """Decoding as a card's plan says."""
    if (refused := too_small(bench, card)) is not None:
        return refused
    plan = bench.plan(card, "five")
    found = decode(bench.folder(scheme_of(card)), bench.scale.films["five"], plan, bench.device, bench.say)
    return {"budget": plan.budget, "planned": plan.decode.peak, **found}


def streamed(bench: Bench, scheme: str, film: str, steps: int) -> dict[str, Any]:
    """A clip with every block resident, then with every block coming from pinned memory."""
    if (refused := no_room(bench, scheme, film, pinned=True)) is not None:
        return refused
    plan = uncapped(bench, scheme, film)
    warm(bench.device)
    resident = bench.denoise(film, replace(plan, resident=plan.blocks), steps)
    pinned = bench.denoise(film, replace(plan, resident=0, pinned_cache_blocks=plan.blocks), steps)
    return {"scheme": scheme, "resident": resident, "pinned": pinned, "slower": slower(pinned, resident)}


def from_disk(bench: Bench, scheme: str, film: str, steps: int) -> dict[str, Any]:
    """A clip with every block resident, then with every block read from the disk, none of them in memory."""
    if (refused := no_room(bench, scheme, film, pinned=False)) is not None:
        return refused
    folder = bench.folder(scheme)
    rate = disk_rate(folder)
    bench.say(f"the disk gives {rate / 1e9:.2f} GB/s")
    plan = uncapped(bench, scheme, film)
    warm(bench.device)
    resident = bench.denoise(film, replace(plan, resident=plan.blocks), steps)
    with from_the_disk(folder):
        disk = bench.denoise(film, replace(plan, resident=0), steps)
    reading = bench.sizes(scheme).high_noise.total / rate
    hides = reading < resident["seconds_a_step"]
    return {"scheme": scheme, "disk_bytes_a_second": rate, "reading_seconds": reading, "could_hide": hides} | {
        "resident": resident,
        "disk": disk,
        "slower": slower(disk, resident),
    }


def slower(run: Mapping[str, Any], resident: Mapping[str, Any]) -> float:
    """By what part of a resident step a step takes longer."""
    return float(run["seconds_a_step"] / resident["seconds_a_step"] - 1)


def uncapped(bench: Bench, scheme: str, film: str) -> Plan:
    """A plan without a cap: all of this device, so that all blocks can be resident."""
    budget = 2**50 if bench.scale.small else torch.cuda.get_device_properties(bench.device).total_memory
    plan = bench.plan(24, film, scheme)
    return replace(plan, budget=budget, joint=True, resident_other=0, pinned_cache_blocks=0)


def too_small(bench: Bench, card: int) -> dict[str, Any] | None:
    """Why this device cannot stand for a card, if it cannot."""
    if bench.scale.small or torch.cuda.get_device_properties(bench.device).total_memory >= (card - 1) * GIB:
        return None
    return {"skipped": f"this card is smaller than {card} GB less 1 GiB"}


def no_room(bench: Bench, scheme: str, film: str, *, pinned: bool) -> dict[str, Any] | None:
    """Why all blocks cannot be resident here, or both experts' cannot be pinned, if so."""
    if bench.scale.small:
        return None
    sizes, total = bench.sizes(scheme), torch.cuda.get_device_properties(bench.device).total_memory
    sums = Problem(find_profile("24gb"), sizes, bench.request(film), Machine()).arithmetic
    needed = sums.denoise(sizes.high_noise, Chunks(), RING, joint=True) + sizes.high_noise.total
    if needed + GIB > total:
        return {"skipped": f"all blocks resident take {needed / GIB:.1f} GiB, this card has {total / GIB:.1f}"}
    both, ram = 2 * sizes.high_noise.total, psutil.virtual_memory().total
    if pinned and both > ram // 2:
        return {"skipped": f"both experts pinned take {both / GIB:.1f} GiB, this machine has {ram / GIB:.1f}"}
    return None


def described_plan(plan: Plan) -> dict[str, Any]:
    """What of a plan the targets speak of."""
    return {
        "scheme": plan.scheme,
        "budget": plan.budget,
        "planned": plan.high_noise.peak,
        "resident_blocks": plan.resident,
        "blocks": plan.blocks,
        "pinned_cache_blocks": plan.pinned_cache_blocks,
        "joint": plan.joint,
        "chunks": [plan.chunks.attention, plan.chunks.feed_forward],
    }


Part = Callable[[Bench], dict[str, Any]]
ORDER = (  # of parts, by the first of these patterns that fits: a card of 8 GB first, then others, then long runs
    *FIRST,
    "disk-five-nf4",
    "weights-int8",
    "card-*-five",
    "least-five",
    "pinned-*",
    "disk-*",
    "decode-*",
    "*",
)


def parts(scale: Scale) -> dict[str, Part]:
    """All parts by name, in order."""
    return by_worth(_parts(scale), ORDER)


def _parts(scale: Scale) -> dict[str, Part]:
    found: dict[str, Part] = {f"weights-{name}": partial(weights, scheme=name) for name in scale.schemes}
    for film, steps in (("five", 3), ("one", 2)):
        found |= {f"card-{card}-{film}": partial(on_card, card=card, film=film, steps=steps) for card in CARDS}
    found["card-8-minute"] = partial(on_card, card=8, film="minute", steps=1)
    found |= {f"least-{film}": partial(least, film=film) for film in ("five", "one")}
    found |= {f"decode-{card}": partial(decoded, card=card) for card in CARDS}
    for scheme in scale.schemes:
        found[f"pinned-five-{scheme}"] = partial(streamed, scheme=scheme, film="five", steps=3)
        found[f"pinned-short-{scheme}"] = partial(streamed, scheme=scheme, film="short", steps=5)
        found[f"disk-five-{scheme}"] = partial(from_disk, scheme=scheme, film="five", steps=3)
    return found


# --- command ---------------------------------------------------------------------------------------


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--part", help="Run this part only, here and now; `list` names them.")
@click.option("--only", multiple=True, help="Run the parts that fit this pattern, such as 'card-*'.")
@click.option("--minutes", type=float, default=ENDLESS, help="How long it may take; 0 only reports.")
@click.option("--result", type=click.Path(path_type=Path), help="Where finished parts are kept.")
@click.option("--quiet", is_flag=True, hidden=True, help="Do not report at the end.")
@click.option("--small", is_flag=True, help="Prove the code at a small size on the CPU.")
def main(
    work: Path,
    part: str | None,
    only: tuple[str, ...],
    minutes: float,
    result: Path | None,
    quiet: bool,
    small: bool,
) -> None:
    clock = Clock(time.perf_counter(), minutes)
    small = small or not torch.cuda.is_available()
    scale = Scale.tiny() if small else Scale.full()
    if part == "list":
        print("\n".join(parts(scale)))
        return
    bench = Bench(work, torch.device("cpu" if small else "cuda"), scale, clock)
    work.mkdir(parents=True, exist_ok=True)
    runner = make_runner(bench, result or default_result(bench), only)
    if part is not None:
        if runner.apart is not None:
            end_with_parent()
        runner.run(part)
    elif minutes:
        runner.run_all()
    if not quiet:
        report(bench, runner.result)
    if part is None and runner.missing:
        raise SystemExit("parts are missing; the same command tries them again")


def make_runner(bench: Bench, path: Path, only: Sequence[str]) -> Runner:
    """What runs the parts: each in a process of its own, at small scale in this one."""
    own = [*command("fit"), str(bench.work), "--result", str(path), "--quiet"]
    found = {name: partial(part, bench) for name, part in chosen(parts(bench.scale), only).items()}
    return Runner(
        Result(path, facts(bench), ALIKE), found, bench.say, None if bench.scale.small else own, bench.clock.left
    )


def default_result(bench: Bench) -> Path:
    """A file for this device; at small scale in WORK, since it is no result."""
    if bench.scale.small:
        return bench.work / "fit-small.json"
    return RESULTS / f"fit-{slug(torch.cuda.get_device_name())}.json"


def facts(bench: Bench) -> dict[str, Any]:
    """What all parts are measured on."""
    on_cpu = bench.device.type == "cpu"
    return {
        "benchmark": "fit",
        "small": bench.scale.small,
        "device": f"CPU {platform.machine()}" if on_cpu else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "ram_bytes": psutil.virtual_memory().total,
        "model": described(bench.scale.model),
        "films": {name: vars(film) for name, film in bench.scale.films.items()},
    }


def report(bench: Bench, result: Result) -> None:
    """A table of what is finished, each target with its verdict, then one line of JSON."""
    record = result.read()
    verdicts = targets(record["parts"], small=bench.scale.small)
    for line in table(record, verdicts):
        print(line)
    print(json.dumps({**record, "targets": [vars(verdict) for verdict in verdicts]}))


if __name__ == "__main__":
    main()
