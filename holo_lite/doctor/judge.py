"""What to say about a machine: a function of what was found out, so that any machine can be made up and judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from holo_lite.doctor.facts import DoctorTrial, Kind, MachineFacts, Trouble
from holo_lite.doctor.finding import Diagnosis, fix, note, ok, pip, unseen
from holo_lite.doctor.judge_card import (
    CUDA_INDEX,
    better_cudnn,
    judge_card,
    judge_cudnn,
    judge_driver,
    judge_torch,
    judge_windows,
)
from holo_lite.system.units import bytes_text, memory_text

SLOW_DISK = 500e6  # bytes a second: what SATA can bring; disks with moving parts give a third of it
LITTLE_RAM = 4 * 2**30  # free bytes
RELEASED = 69.1e9  # bytes of the released files
LIBRARY: Mapping[str, str] = {
    "nf4": "bitsandbytes",
    "int8": "bitsandbytes",
    "qint8": '"optimum-quanto==0.2.7"',
    "qint4": '"optimum-quanto==0.2.7"',
    "qfloat8": '"optimum-quanto==0.2.7"',
}
OWN_KERNEL = "sdpa"  # what every run falls back on


def judge(s: MachineFacts) -> tuple[Diagnosis, ...]:
    """Everything worth a line, in the order in which fixing it makes sense."""
    checks = (
        judge_system,
        judge_packages,
        judge_torch,
        judge_driver,
        judge_card,
        judge_cudnn,
        judge_windows,
        judge_memory,
        judge_disk,
        judge_trials,
        judge_model,
        judge_choice,
        judge_cache,
        judge_report,
    )
    return tuple(finding for check in checks for finding in check(s))


def judge_system(s: MachineFacts) -> Iterator[Diagnosis]:
    """Python, and variables that slow CUDA down."""
    if isinstance(s.system, Trouble):
        yield unseen("Python", s.system.said)
        return
    if s.system.bits < 64:
        yield fix("Python", f"{s.system.python} is 32-bit", "install 64-bit Python, and holo-lite in it")
    else:
        yield ok("Python", f"{s.system.python} on {s.system.name}{' (WSL)' if s.system.is_wsl else ''}")
    if s.system.variables.get("CUDA_LAUNCH_BLOCKING", "0") not in {"", "0"}:
        yield note("CUDA", "CUDA_LAUNCH_BLOCKING makes every call wait for the card", "unset CUDA_LAUNCH_BLOCKING")


def judge_packages(s: MachineFacts) -> Iterator[Diagnosis]:
    """Requirements that are not met."""
    if isinstance(s.packages, Trouble):
        yield unseen("packages", s.packages.said)
        return
    for package in s.packages:
        found = f"{package.found} is installed" if package.found else "it is not installed"
        index = f" {CUDA_INDEX}" if package.requirement.startswith("torch") and _has_nvidia(s) else ""
        yield fix("packages", f"{package.requirement} is needed, {found}", pip(f'"{package.requirement}"{index}'))
    if not s.packages:
        yield ok("packages", "all that are needed, in matching versions")


def _has_nvidia(s: MachineFacts) -> bool:
    return not isinstance(s.nvidia, Trouble) and bool(s.nvidia.cards)


def judge_report(s: MachineFacts) -> Iterator[Diagnosis]:
    """What a bug report needs besides, only if it could not be gathered."""
    if isinstance(s.report, Trouble):
        yield unseen("report", s.report.said)


def judge_memory(s: MachineFacts) -> Iterator[Diagnosis]:
    """The main memory."""
    if isinstance(s.machine, Trouble):
        return  # the card's line has said it, or PyTorch's
    if s.machine.ram is None or s.machine.ram_free is None:
        return
    said = f"{memory_text(s.machine.ram)}, {memory_text(s.machine.ram_free)} of it free"
    if s.machine.ram_free < LITTLE_RAM:
        yield note("RAM", said, "close other programs: weights then stay in memory instead of on the disk")
    else:
        yield ok("RAM", said)


def judge_disk(s: MachineFacts) -> Iterator[Diagnosis]:
    """How fast weights can come, and how much fits."""
    if isinstance(s.disk, Trouble):
        yield unseen("disk", s.disk.said)
        return
    free = f"{bytes_text(s.disk.free)} free in {s.disk.folder}"
    if s.disk.rate is None:
        yield note("disk", f"{free}; its speed could not be measured")
        return
    flattered = ", perhaps too high: the system's cache could not be bypassed here" if s.disk.by_cache else ""
    said = f"{free}, reads {bytes_text(s.disk.rate)} a second (of {s.disk.of}{flattered})"
    if s.disk.rate < SLOW_DISK:
        yield note(
            "disk", said, "put the model onto an SSD: what does not fit in memory is read again in every step"
        )
    elif s.model is None and s.disk.free < RELEASED:
        need = f"the released files take {bytes_text(RELEASED)}"
        yield note("disk", said, f"{need}: give `holo-lite fetch` a folder on another disk with --into")
    else:
        yield ok("disk", said)


def judge_trials(s: MachineFacts) -> Iterator[Diagnosis]:
    """What worked on a small input, a line a kind, and a line for each that did not."""
    if isinstance(s.torch, Trouble):
        return  # nothing can
    kinds: dict[Kind, list[DoctorTrial]] = defaultdict(list)
    for trial in s.trials:
        kinds[trial.kind].append(trial)
    for kind, trials in kinds.items():
        if told := [*_working(kind, trials), *_left_out(kind, trials)]:
            yield ok(TITLES[kind], "; ".join(told))
        yield from (_broken(trial, s) for trial in trials if trial.outcome == "broken")


TITLES: Mapping[Kind, str] = {
    "scheme": "schemes",
    "attention": "attention",
    "8-bit": "8-bit products",
    "fused": "fused kernels",
    "conv3d": "conv3d",
    "compile": "torch.compile",
    "video": "video",
}
ONE: tuple[Kind, ...] = ("fused", "conv3d", "compile", "video")  # kinds of a single thing


def _working(kind: Kind, trials: list[DoctorTrial]) -> Iterator[str]:
    names = [trial.name for trial in trials if trial.outcome == "works"]
    if names:
        yield "works" if kind in ONE else f"{', '.join(names)} {'works' if len(names) == 1 else 'work'}"


def _left_out(kind: Kind, trials: list[DoctorTrial]) -> Iterator[str]:
    """Those that are for other machines or not installed, by their reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for trial in trials:
        if trial.outcome == "not here":
            reasons[trial.said].append(trial.name)
    for reason, names in reasons.items():
        yield f"{'not used here' if kind in ONE else 'not ' + ', '.join(names)}: {reason}"


def _broken(trial: DoctorTrial, s: MachineFacts) -> Diagnosis:
    """What a thing that does not work means for a run."""
    subject = "" if trial.kind in ONE else f"{trial.name} "
    title, said = TITLES[trial.kind], f"{subject}does not work: {trial.said}"
    match trial.kind:
        case "scheme":
            return fix(title, said, pip("--force-reinstall --no-deps", LIBRARY[trial.name]))
        case "conv3d":
            return fix(title, said, better_cudnn(s))
        case "video":
            return fix(title, said, pip("--force-reinstall av"))
        case "attention" if trial.name == OWN_KERNEL:
            return fix(title, said, pip("--force-reinstall torch", *([CUDA_INDEX] if _has_nvidia(s) else [])))
        case "attention":
            return note(title, f"{said}; runs work without it")
        case _:
            return note(title, f"{said}; nothing needs it")


def judge_model(s: MachineFacts) -> Iterator[Diagnosis]:
    """Whether a folder is a whole model."""
    model = s.model
    if model is None:
        yield note("model", "none was given", "holo-lite doctor --model DIR, or holo-lite fetch sparse to get one")
    elif isinstance(model, Trouble):
        yield unseen("model", model.said)
    elif model.problem:
        said, _, do = model.problem.rpartition("; ")
        mended = do if said and do.strip() else "holo-lite fetch sparse"
        yield fix("model", said or do, mended)
    elif model.is_converted:
        yield ok("model", f"{model.folder} is complete: {model.scheme}, {model.attention} attention")
    else:
        yield note(
            "model",
            f"{model.folder} is complete, as released: {model.scheme}, {model.attention} attention",
            f"holo-lite quantize {model.folder} {model.folder}-nf4 makes a smaller one that opens in seconds",
        )


def judge_choice(s: MachineFacts) -> Iterator[Diagnosis]:
    """The profile of a run."""
    if isinstance(s.choice, Trouble):
        told = isinstance(s.torch, Trouble) or isinstance(s.machine, Trouble) or _is_broken(s)
        if not told:
            yield unseen("profile", s.choice.said)
        return
    why = s.choice.why.removeprefix("profile ")
    if s.choice.fits:
        yield ok("profile", why)
    else:
        yield note("profile", why, "holo-lite plan STORYBOARD shows what fits: fewer frames or a smaller picture")


def _is_broken(s: MachineFacts) -> bool:
    """Whether the model's own line has said why nothing can be chosen for it."""
    return isinstance(s.model, Trouble) or (s.model is not None and bool(s.model.problem))


def judge_cache(s: MachineFacts) -> Iterator[Diagnosis]:
    """Where caches are, and how large."""
    if isinstance(s.cache, Trouble):
        yield unseen("cache", s.cache.said)
        return
    parts = ", ".join(f"{name} {bytes_text(size)}" for name, size in s.cache.parts.items() if size)
    total = bytes_text(sum(s.cache.parts.values()))
    yield ok("cache", f"{total} in {s.cache.folder}{f': {parts}' if parts else ''}")
