"""The doctor names what is wrong on machines that are made up, and survives those that are worse."""

import json
import re
import shutil
import stat
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from doctor_work import misbehave
from hypothesis import given, settings, strategies as st

from holo_lite.doctor import disk as disk_module, look, nvidia, system, trials
from holo_lite.doctor.apart import attempt, look_apart
from holo_lite.doctor.disk import disk
from holo_lite.doctor.facts import (
    CacheFacts,
    CardFacts,
    DiskFacts,
    DoctorTrial,
    DriverFacts,
    HardwareFacts,
    MachineFacts,
    ModelFacts,
    PackageFacts,
    ProfileFacts,
    ReportFacts,
    SourceFacts,
    SystemFacts,
    TorchFacts,
    Trouble,
    VersionFacts,
)
from holo_lite.doctor.finding import Diagnosis
from holo_lite.doctor.judge import judge
from holo_lite.doctor.judge_card import CUDA_BUILD, CUDA_INDEX
from holo_lite.doctor.model import choice, model
from holo_lite.eightbit.rows import FORMATS
from holo_lite.errors import RoomError
from holo_lite.kernels.registry import KERNELS
from holo_lite.model.equations import modulate
from holo_lite.model.operations import Ops
from holo_lite.plan.machine import Machine
from holo_lite.plan.profile import GIB
from holo_lite.schemes.registry import SCHEMES
from holo_lite.views.doctor import WIDTH, report_json, report_lines, to_fix

FOUND = tuple(
    DoctorTrial(name or kind, kind, "works")
    for kind, names in look.TRIED.items()
    for name in names
    if kind != "attention"
)
WELL = MachineFacts(
    system=SystemFacts("Linux", "3.12.1", 64),
    packages=(),
    nvidia=DriverFacts(("NVIDIA GeForce RTX 4090",), "580.65.06", (13, 0), by_nvml=True),
    torch=TorchFacts(
        "2.13.0",
        "13.0",
        None,
        91501,
        ("sm_80", "sm_86", "sm_90", "sm_120"),
        (CardFacts("NVIDIA GeForce RTX 4090", (8, 9)),),
    ),
    machine=Machine("NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, 64 * GIB, 50 * GIB),
    disk=DiskFacts(Path("models"), 10**12, 3e9, of="a file made for it"),
    model=ModelFacts(Path("models/holocine-nf4"), "sparse", "nf4", is_converted=True),
    choice=ProfileFacts("profile 24gb: 23.0 of 24.0 GiB free", fits=True),
    cache=CacheFacts(Path("cache"), {"prompts": 4_000_000, "rates": 0}),
    report=ReportFacts(
        SourceFacts("0.1.0", "ab" * 20, changed=False),
        VersionFacts("CPython 3.12.1", {"torch": "2.13.0"}),
        HardwareFacts("a processor", "x86_64", 8, 16, 16, 64 * GIB, 50 * GIB, None, "Debian 13", "Linux 6.12"),
        {"files": "utf-8"},
        {"HF_HOME": False},
    ),
    trials=(
        *FOUND,
        DoctorTrial("sdpa", "attention", "works"),
        DoctorTrial("sage", "attention", "not here", "it needs sage"),
    ),
)
NO_CARDS = replace(WELL.torch, cards=(), codes=())
CPU_BUILD = TorchFacts("2.13.0+cpu")
CPU_ONLY = Machine("this CPU", ram=64 * GIB, ram_free=50 * GIB)


def found(surroundings, what):
    """The one finding about it."""
    (finding,) = [finding for finding in judge(surroundings) if finding.what == what]
    return finding


def test_a_good_machine_has_nothing_to_fix():
    findings = judge(WELL)
    assert {finding.state for finding in findings} == {"ok"}
    lines = list(report_lines(findings))
    assert lines[-1] == "nothing to fix"
    assert found(WELL, "attention").said == "sdpa works; not sage: it needs sage"
    assert found(WELL, "card").said == "NVIDIA GeForce RTX 4090, 23.0 of 24.0 GiB free"
    assert found(WELL, "driver").said == "580.65.06, runs CUDA up to 13.0"
    assert found(WELL, "cuDNN").said == "9.15.1"


# Every machine that is ill in one way, with what is said of it and what to do.
ILL = {
    "CPU-only PyTorch beside a card": (
        replace(WELL, torch=CPU_BUILD, machine=CPU_ONLY),
        (
            "PyTorch",
            "fix",
            "2.13.0+cpu computes on the CPU only, although there is NVIDIA GeForce RTX 4090",
            CUDA_BUILD,
        ),
    ),
    "the same, with a driver too old for what would be installed": (
        replace(
            WELL, torch=CPU_BUILD, machine=CPU_ONLY, nvidia=replace(WELL.nvidia, driver="551.86", cuda=(12, 4))
        ),
        ("PyTorch", "fix", "computes on the CPU only", "update the NVIDIA driver to 580 or newer from"),
    ),
    "a driver too old for PyTorch's CUDA": (
        replace(WELL, torch=NO_CARDS, nvidia=replace(WELL.nvidia, driver="551.86", cuda=(12, 4))),
        ("driver", "fix", "551.86 is too old for PyTorch 2.13.0", "update the NVIDIA driver to 580 or newer"),
    ),
    "cards that a variable hides": (
        replace(WELL, torch=NO_CARDS, system=replace(WELL.system, variables={"CUDA_VISIBLE_DEVICES": ""})),
        ("PyTorch", "fix", "CUDA_VISIBLE_DEVICES='' hides NVIDIA GeForce RTX 4090", "unset CUDA_VISIBLE_DEVICES"),
    ),
    "a card without a driver": (
        replace(WELL, torch=NO_CARDS, nvidia=DriverFacts(("an NVIDIA card",))),
        ("driver", "fix", "an NVIDIA card has no driver", "install it from https://www.nvidia.com/drivers"),
    ),
    "a driver that was updated and not loaded": (
        replace(
            WELL, torch=NO_CARDS, nvidia=DriverFacts(trouble="nvidia-smi says: Driver/library version mismatch")
        ),
        ("driver", "fix", "Driver/library version mismatch", "restart the computer"),
    ),
    "a driver that PyTorch cannot use": (
        replace(WELL, torch=replace(NO_CARDS, refusal="CUDA unknown error")),
        ("PyTorch", "fix", "cannot use NVIDIA GeForce RTX 4090: CUDA unknown error", "restart"),
    ),
    "no card at all": (
        replace(WELL, torch=CPU_BUILD, machine=CPU_ONLY, nvidia=DriverFacts()),
        ("PyTorch", "note", "2.13.0+cpu; no NVIDIA card here, so everything runs on the CPU, very slowly", ""),
    ),
    "ROCm": (
        replace(WELL, torch=replace(WELL.torch, cuda=None, rocm="6.4", cudnn=None, codes=("gfx1100",))),
        ("PyTorch", "note", "for ROCm: holo-lite is made for CUDA", ""),
    ),
    "PyTorch that does not load": (
        replace(WELL, torch=Trouble("OSError: [WinError 126] c10.dll")),
        ("PyTorch", "fix", "does not load: OSError: [WinError 126] c10.dll", CUDA_BUILD),
    ),
    "a card newer than PyTorch": (
        replace(WELL, torch=replace(WELL.torch, codes=("sm_80", "sm_90"), cards=(CardFacts("RTX 5090", (12, 0)),))),
        ("card", "fix", "has no code for RTX 5090 (compute capability 12.0)", CUDA_BUILD),
    ),
    "a card older than PyTorch": (
        replace(WELL, torch=replace(WELL.torch, cards=(CardFacts("GTX 1080", (6, 1)),))),
        ("card", "fix", "has no code for GTX 1080 (compute capability 6.1)", "use --device cpu"),
    ),
    "a card without bf16": (
        replace(
            WELL,
            torch=replace(WELL.torch, codes=("sm_75", "sm_80"), cards=(CardFacts("RTX 2080", (7, 5)),)),
            machine=CPU_ONLY,
        ),
        (
            "card",
            "fix",
            "RTX 2080 cannot compute in bf16 (it has compute capability 7.5, bf16 needs 8.0",
            "use another card, or --device cpu; --dtype fp32 works on it",
        ),
    ),
    "a card that others fill": (
        replace(WELL, machine=replace(WELL.machine, free=10 * GIB)),
        ("card", "note", "10.0 of 24.0 GiB free", "close other programs that use the card"),
    ),
    "a card so full that it cannot be asked": (
        replace(
            WELL, machine=Trouble("RTX 4090: cannot be asked for its memory (out of memory); close other programs")
        ),
        ("card", "fix", "cannot be asked for its memory (out of memory)", "close other programs that use the card"),
    ),
    "a cuDNN that is bad at conv3d": (
        replace(WELL, torch=replace(WELL.torch, cudnn=91002)),
        (
            "cuDNN",
            "fix",
            "9.10.2 needs much time and memory for bf16",
            'install --upgrade "nvidia-cudnn-cu13>=9.15.1"',
        ),
    ),
    "the same on Windows, where it is part of PyTorch": (
        replace(WELL, torch=replace(WELL.torch, cudnn=91400), system=replace(WELL.system, name="Windows")),
        ("cuDNN", "fix", "9.14.0 needs much time", f"install --upgrade torch {CUDA_INDEX}"),
    ),
    "Windows": (
        replace(WELL, system=replace(WELL.system, name="Windows"), nvidia=replace(WELL.nvidia, driver="581.15")),
        ("Windows", "note", "moves what does not fit on the card to main memory", "NVIDIA Control Panel"),
    ),
    "Windows without NVML": (
        replace(
            WELL,
            system=replace(WELL.system, name="Windows"),
            nvidia=replace(WELL.nvidia, driver="531.1", by_nvml=False),
        ),
        ("Windows", "note", "CUDA does not see the memory that other programs use", "install nvidia-ml-py"),
    ),
    "Windows with a driver that cannot be told": (
        replace(WELL, system=replace(WELL.system, name="Windows"), nvidia=replace(WELL.nvidia, driver="537.13")),
        (
            "Windows",
            "note",
            "moves what does not fit",
            "update the driver to 546.01 or newer; then NVIDIA Control Panel",
        ),
    ),
    "32 bits": (
        replace(WELL, system=replace(WELL.system, bits=32)),
        ("Python", "fix", "3.12.1 is 32-bit", "install 64-bit Python"),
    ),
    "a slow card by a variable": (
        replace(WELL, system=replace(WELL.system, variables={"CUDA_LAUNCH_BLOCKING": "1"})),
        ("CUDA", "note", "makes every call wait", "unset CUDA_LAUNCH_BLOCKING"),
    ),
    "an update that went too far": (
        replace(WELL, packages=(PackageFacts("optimum-quanto==0.2.7", "0.3.0"),)),
        (
            "packages",
            "fix",
            "==0.2.7 is needed, 0.3.0 is installed",
            'python -m pip install "optimum-quanto==0.2.7"',
        ),
    ),
    "a PyTorch that is too old": (
        replace(WELL, packages=(PackageFacts("torch>=2.11", "2.4.0"),)),
        ("packages", "fix", "torch>=2.11 is needed", f'python -m pip install "torch>=2.11" {CUDA_INDEX}'),
    ),
    "little RAM": (
        replace(WELL, machine=replace(WELL.machine, ram=8 * GIB, ram_free=2 * GIB)),
        ("RAM", "note", "8.00 GiB, 2.00 GiB of it free", "close other programs"),
    ),
    "a disk with moving parts": (
        replace(WELL, disk=replace(WELL.disk, rate=150e6)),
        ("disk", "note", "reads 150.00 MB a second", "put the model onto an SSD"),
    ),
    "a disk whose cache cannot be gone round": (
        replace(WELL, disk=replace(WELL.disk, by_cache=True)),
        ("disk", "ok", "perhaps too high: the system's cache", ""),
    ),
    "a disk too small for the released files": (
        replace(WELL, model=None, disk=replace(WELL.disk, free=10**10)),
        (
            "disk",
            "note",
            "10.00 GB free",
            "the released files take 69.10 GB: give `holo-lite fetch` a folder on another disk",
        ),
    ),
    "a disk that cannot be measured": (
        replace(WELL, disk=DiskFacts(Path("/proc"), 0)),
        ("disk", "note", "its speed could not be measured", ""),
    ),
    "broken bitsandbytes": (
        replace(
            WELL, trials=(*WELL.trials[1:], DoctorTrial("nf4", "scheme", "broken", "ended its process (SIGILL)"))
        ),
        (
            "schemes",
            "fix",
            "nf4 does not work: ended its process (SIGILL)",
            "--force-reinstall --no-deps bitsandbytes",
        ),
    ),
    "a broken kernel that nobody must have": (
        replace(
            WELL, trials=(DoctorTrial("flash-attn-2", "attention", "broken", "ImportError: undefined symbol"),)
        ),
        (
            "attention",
            "note",
            "flash-attn-2 does not work: ImportError: undefined symbol; runs work without it",
            "",
        ),
    ),
    "attention that computes something else": (
        replace(WELL, trials=(DoctorTrial("sdpa", "attention", "broken", "a row is 1 of its length off"),)),
        ("attention", "fix", "sdpa does not work", f"--force-reinstall torch {CUDA_INDEX}"),
    ),
    "wrong convolutions": (
        replace(WELL, trials=(DoctorTrial("conv3d", "conv3d", "broken", "in bf16 it is 0.9 of its size off"),)),
        ("conv3d", "fix", "in bf16 it is 0.9 of its size off", '--upgrade "nvidia-cudnn-cu13>=9.15.1"'),
    ),
    "no compiler": (
        replace(
            WELL, trials=(DoctorTrial("torch.compile", "compile", "broken", "InvalidCxxCompiler: No C++ compiler"),)
        ),
        ("torch.compile", "note", "No C++ compiler; nothing needs it", ""),
    ),
    "no H.264": (
        replace(WELL, trials=(DoctorTrial("mp4", "video", "broken", "UnknownCodecError: libx264"),)),
        ("video", "fix", "UnknownCodecError: libx264", "--force-reinstall av"),
    ),
    "a model that is cut short": (
        replace(WELL, model=ModelFacts(Path("m"), problem="m/a.safetensors: is cut short; download it again")),
        ("model", "fix", "m/a.safetensors: is cut short", "download it again"),
    ),
    "a model as released": (
        replace(WELL, model=ModelFacts(Path("m"), "sparse", "bf16")),
        ("model", "note", "m is complete, as released", "holo-lite quantize m m-nf4"),
    ),
    "no model": (
        replace(WELL, model=None),
        ("model", "note", "none was given", "holo-lite doctor --model DIR, or holo-lite fetch sparse"),
    ),
    "a machine too small for the trained length": (
        replace(WELL, choice=ProfileFacts("profile 6gb: 2.0 of 6.0 GiB free", fits=False)),
        ("profile", "note", "6gb: 2.0 of 6.0 GiB free", "holo-lite plan STORYBOARD shows what fits"),
    ),
}


@pytest.mark.parametrize("ill", ILL)
def test_what_is_wrong_is_named_with_what_to_do(ill):
    surroundings, (what, state, said, do) = ILL[ill]
    (finding,) = [finding for finding in judge(surroundings) if (finding.what, finding.state) == (what, state)]
    assert said in finding.said
    assert do in finding.do
    assert bool(finding.do) == bool(do)


@pytest.mark.parametrize("ill", ILL)
def test_one_illness_gives_no_second_fix(ill):
    """What follows from it is not told as well."""
    fixes = [finding for finding in judge(ILL[ill][0]) if finding.state == "fix"]
    assert len(fixes) == (ILL[ill][1][1] == "fix")


@pytest.mark.parametrize("field", [name for name in look.FACTS if name != "model"])
def test_what_could_not_be_looked_at_is_told_once(field):
    troubled = replace(WELL, **{field: Trouble("ValueError: nobody thought of that")})
    fixes = [finding for finding in judge(troubled) if finding.state == "fix"]
    assert len(fixes) == 1
    assert "ValueError: nobody thought of that" in fixes[0].said


def test_a_card_is_served_by_code_of_its_generation_or_what_can_be_translated():
    def is_served(capability, codes):
        torch_seen = replace(WELL.torch, codes=codes, cards=(CardFacts("card", capability),))
        return all(finding.state != "fix" for finding in judge(replace(WELL, torch=torch_seen)))

    assert is_served((8, 9), ("sm_80",))
    assert not is_served((8, 0), ("sm_86",))
    assert not is_served((12, 0), ("sm_90", "sm_90a"))
    assert is_served((12, 0), ("sm_90", "compute_90"))
    assert is_served((12, 1), ("sm_120",))
    assert is_served((12, 0), ())


words = st.text(alphabet="abc ;:\n'\"→", max_size=12)
versions = st.tuples(st.integers(1, 14), st.integers(0, 9))
trouble = st.builds(Trouble, words)
surroundings_of_any_kind = st.builds(
    MachineFacts,
    system=trouble
    | st.builds(
        SystemFacts,
        st.sampled_from(["Linux", "Windows", "Darwin", ""]),
        words,
        st.sampled_from([32, 64]),
        st.booleans(),
        st.dictionaries(st.sampled_from(system.VARIABLES), words),
    ),
    packages=trouble | st.tuples(st.builds(PackageFacts, words, st.none() | words)),
    nvidia=trouble
    | st.builds(
        DriverFacts,
        st.lists(words).map(tuple),
        st.sampled_from(["", "5", "551.86", "580.65.06"]),
        st.none() | versions,
        words,
    ),
    torch=trouble
    | st.builds(
        TorchFacts,
        words,
        st.none() | st.sampled_from(["12.6", "13.0", "14"]),
        st.none() | st.just("6.4"),
        st.none() | st.integers(0, 100_000),
        st.lists(st.sampled_from(["sm_75", "sm_90a", "compute_120", "gfx1100", ""])).map(tuple),
        st.lists(st.builds(CardFacts, words, versions)).map(tuple),
        words,
    ),
    machine=trouble | st.builds(Machine, words, *[st.none() | st.integers(0, 2**40)] * 4),
    disk=trouble
    | st.builds(
        DiskFacts,
        st.just(Path("here")),
        st.integers(0, 2**45),
        st.none() | st.floats(1, 1e11),
        st.booleans(),
        words,
    ),
    model=trouble | st.none() | st.builds(ModelFacts, st.just(Path("m")), words, words, st.booleans(), words),
    choice=trouble | st.builds(ProfileFacts, words, st.booleans()),
    cache=trouble | st.builds(CacheFacts, st.just(Path("c")), st.dictionaries(words, st.integers(0, 2**40))),
    report=trouble | st.just(WELL.report),
    trials=st.lists(
        st.builds(
            DoctorTrial,
            st.sampled_from(["nf4", "int8", "qint4"]),
            st.sampled_from([*look.TRIED]),
            st.sampled_from(["works", "not here", "broken"]),
            words,
        )
    ).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(surroundings_of_any_kind)
def test_no_machine_is_beyond_judgement(surroundings):
    findings = judge(surroundings)
    assert all(finding.do or finding.state != "fix" for finding in findings)
    lines = list(report_lines(findings))
    assert all(len(line) <= WIDTH or line.startswith(" " * 22 + "→ ") for line in lines)
    assert all("\n" not in line for line in lines)
    assert json.loads(report_json(findings, surroundings))["to_fix"] == to_fix(findings)


# --- looking ---------------------------------------------------------------------------------------


def test_all_there_is_to_try_is_tried():
    assert {*look.TRIED["scheme"]} == {*SCHEMES} - {"bf16", "nf4-single"}
    assert [*look.TRIED["attention"]] == [kernel.name for kernel in KERNELS]
    assert {*look.TRIED["8-bit"]} == {*FORMATS}


def test_whatever_ends_the_other_process_the_rest_is_seen():
    names = ["a", "segfault", "raise", "leave", "chatter", "hang", "secret", "b"]
    seen = dict(look_apart(misbehave, names, limit=5))
    assert [*seen] == names
    assert (seen["a"], seen["chatter"], seen["b"]) == ("seen a", "seen chatter", "seen b")
    assert seen["segfault"] == Trouble("ended its process (SIGSEGV)")
    assert seen["raise"] == Trouble("RuntimeError: the library is broken")
    assert seen["leave"] == Trouble("ended its process (exit code 7)")
    assert seen["hang"] == Trouble("gave no answer in 5 s")
    assert "ended its process" in seen["secret"].said


def test_our_own_errors_are_told_without_their_kind():
    def full(_):
        raise RoomError("the card: is full; close other programs")

    assert attempt(full, "machine") == Trouble("the card: is full; close other programs")


def test_trials_run_what_they_name():
    assert [trials.scheme(name).outcome for name in ("nf4", "int8", "qint8", "qint4", "qfloat8")] == ["works"] * 5
    assert trials.attention("sdpa").outcome == "works"
    assert [trials.eight_bit(name).outcome for name in ("int8", "fp8")] == ["works"] * 2
    assert trials.conv3d().outcome == "works"
    assert trials.fused().outcome in {"works", "not here"}
    assert trials.video() == DoctorTrial("mp4", "video", "works", "H.264 by libx264")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card may have them: run without one")
def test_a_kernel_for_other_machines_is_not_called_broken():
    trial = trials.attention("flash-attn-2")
    assert (trial.outcome, trial.said) == ("not here", "it runs on CUDA cards only")


def test_a_library_that_computes_something_else_is_found(monkeypatch):
    from bitsandbytes import functional

    dequantize = functional.dequantize_4bit
    monkeypatch.setattr(functional, "dequantize_4bit", lambda *given, **how: dequantize(*given, **how).mul_(1.2))
    assert trials.scheme("nf4").outcome == "broken"
    assert re.match(
        r"a weight comes back 0\.2\d* of its size off, at most 0.098 is expected", trials.scheme("nf4").said
    )
    assert trials.scheme("int8").outcome == "works"


def test_fused_operations_that_mean_something_else_are_found(monkeypatch):
    def fused(ops):
        monkeypatch.setattr("holo_lite.kernels.fused.pick_ops", lambda *_: (ops, "on", "fuse on: measured"))
        return trials.fused()

    assert fused(Ops()) == DoctorTrial("fused", "fused", "works", "on")
    assert fused(Ops(gated_add_=lambda x, update, _gate: x.add_(update * 2))).outcome == "broken"
    assert (
        fused(Ops(modulate=lambda x, shift, scale, eps, _form: modulate(x, scale, shift * 2, eps))).outcome
        == "broken"
    )


@pytest.mark.parametrize(
    ("capability", "name", "reason"),
    [
        ((8, 6), "fp8", "it needs a card of compute capability 8.9 or later"),
        ((8, 9), "fp8", "it needs the package triton, which is not installed"),
        ((8, 6), "int8", "it needs the package triton, which is not installed"),
    ],
)
def test_products_that_a_card_cannot_do_are_not_called_broken(monkeypatch, capability, name, reason):
    monkeypatch.setattr(trials, "_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr("holo_lite.eightbit.coding.has_triton", lambda: False)
    monkeypatch.setattr("holo_lite.eightbit.product.runs_row_by_row", lambda _: False)
    assert trials.eight_bit(name) == DoctorTrial(name, "8-bit", "not here", reason)


def test_a_library_that_raises_is_broken_and_the_doctor_goes_on(monkeypatch, tmp_path):
    def no_symbol(*_, **__):
        raise AttributeError("undefined symbol: cquantize_blockwise_fp16_nf4")

    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", no_symbol)
    place = look.ModelPlace(tmp_path, tmp_path)
    names = ("scheme nf4", "scheme int8")
    seen = {name: attempt(lambda name: look.look_at(place, name), name) for name in names}
    assert look.assemble(seen).trials == (
        DoctorTrial("nf4", "scheme", "broken", "AttributeError: undefined symbol: cquantize_blockwise_fp16_nf4"),
        DoctorTrial("int8", "scheme", "works", seen["scheme int8"].said),
    )
    assert look.assemble(seen).torch == Trouble("was not checked")


def test_the_installed_packages_suit():
    assert system.packages() == ()


def test_a_package_that_does_not_suit_is_found(monkeypatch):
    needed = ["torch>=2.11", "av>=15", "gguf>=0.19", 'flash-attn>=2.8; extra == "flash-attn"']
    there = {"torch": "2.10.0+cu130", "av": "18.1.0"}
    monkeypatch.setattr("importlib.metadata.requires", lambda _: needed)
    monkeypatch.setattr(system, "installed", there.get)
    assert system.packages() == (PackageFacts("torch>=2.11", "2.10.0+cu130"), PackageFacts("gguf>=0.19", None))


# --- the driver, without PyTorch -------------------------------------------------------------------


SMI = """#!{python}
import sys
if len(sys.argv) > 1:
    print("NVIDIA GeForce RTX 4090, 580.65.06\\nNVIDIA T400, 4GB, 580.65.06")
else:
    print("| NVIDIA-SMI 580.65.06    Driver Version: 580.65.06    CUDA Version: 13.0 |")
sys.exit({code})
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an nvidia-smi of one's own onto the path."""

    def put(text):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setattr(shutil, "which", lambda _: str(program))

    return put


def test_nvidia_smi_is_understood(smi):
    smi(SMI.format(python=sys.executable, code=0))
    assert nvidia.by_smi() == DriverFacts(("NVIDIA GeForce RTX 4090", "NVIDIA T400, 4GB"), "580.65.06", (13, 0))


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        (
            "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18",
            "version mismatch",
        ),
        ("#!/no/such/program\n", "nvidia-smi does not run"),
        ("#!/bin/sh\nexec sleep 30\n", "nvidia-smi does not run"),
    ],
)
def test_what_nvidia_smi_complains_of_is_passed_on(smi, monkeypatch, text, telling):
    if "sleep" in text:
        monkeypatch.setattr(nvidia, "PATIENCE", 0.3)
    smi(text)
    assert telling in nvidia.by_smi().trouble


@pytest.mark.parametrize("line", ["CUDA Version: 12.4  |", "CUDA UMD Version: 12.4", "| CUDA Version : 12.4"])
def test_the_cuda_version_is_read_in_every_tables_wording(line):
    assert nvidia.cuda_version(f"| Driver Version: 550.54.14    {line} |") == (12, 4)
    assert nvidia.cuda_version("no table") is None


def test_linux_own_tables_are_read_where_no_program_is(tmp_path):
    driver = tmp_path / "proc" / "driver" / "nvidia"
    (driver / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (driver / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA GeForce RTX 3090\nIRQ: 1\n")
    (driver / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC 12\n"
    )
    assert nvidia.by_tables(tmp_path) == DriverFacts(("NVIDIA GeForce RTX 3090",), "550.54.14")


def test_a_card_in_the_slot_without_a_driver_is_seen(tmp_path):
    for name, (vendor, kind) in {
        "a": ("0x10de", "0x030000"),
        "b": ("0x8086", "0x030000"),
        "c": ("0x10de", "0x040300"),
    }.items():
        device = tmp_path / "sys/bus/pci/devices" / name
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert nvidia.by_tables(tmp_path) == DriverFacts(("an NVIDIA card",))
    assert nvidia.by_tables(tmp_path / "nothing") == DriverFacts()


# --- disk and model --------------------------------------------------------------------------------


def test_a_disk_is_measured_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_module, "OWN_FILE", 2**24)
    seen = disk(tmp_path, None)
    assert seen.rate > 0
    assert seen.of == "a file made for it"
    assert list(tmp_path.iterdir()) == []


def test_the_models_largest_file_is_read_and_not_through_the_cache_if_that_can_be(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(bytes(2**24 + 5))
    (tmp_path / "small").write_bytes(bytes(2**10))
    assert disk(tmp_path, tmp_path).of == "large"
    refused = OSError(22, "Invalid argument")
    monkeypatch.setattr(disk_module, "_round_the_cache", lambda _: (_ for _ in ()).throw(refused))
    seen = disk(tmp_path, tmp_path)
    assert seen.by_cache
    assert seen.rate > 0


def test_a_full_or_locked_disk_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_module, "SPARE", 2**60)
    assert disk(tmp_path, None).rate is None


def test_a_models_health_is_that_of_all_its_files(toy_copy):
    assert model(toy_copy) == ModelFacts(toy_copy, "sparse", "fp32")
    assert choice(toy_copy).fits
    with (toy_copy / "dit_low_noise.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 4)
    assert re.match(r".*dit_low_noise.safetensors: is cut short: tensor", model(toy_copy).problem)
    (toy_copy / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in model(toy_copy).problem


@pytest.mark.parametrize("name", ["nowhere", "a file"])
def test_a_name_that_is_no_folder_is_the_models_illness_and_not_the_disks(tmp_path, name):
    (tmp_path / "a file").write_bytes(b"")
    place = look.ModelPlace(tmp_path, tmp_path / "cache", tmp_path / name)
    looked = {fact: attempt(partial(look.look_at, place), fact) for fact in ("disk", "model")}
    fixes = [finding.what for finding in judge(replace(WELL, **looked)) if finding.state == "fix"]
    assert fixes == ["model"]


def test_a_profile_is_named_without_a_model():
    chosen = choice(None)
    assert chosen.why.startswith("profile ")
    assert not choice_of_a_tiny_machine().fits


def choice_of_a_tiny_machine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holo_lite.doctor.model.this_machine", lambda: Machine("this CPU", ram=GIB, ram_free=GIB))
        return choice(None)


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Without what takes long, or is measured elsewhere."""
    names = [name for name in look.NAMES if name in look.FACTS or name in {"scheme nf4", "video"}]
    monkeypatch.setattr(look, "NAMES", tuple(names))


@pytest.mark.usefixtures("quick")
def test_the_report_can_be_read_by_programs(run, toy_copy):
    (toy_copy / "tokenizer.json").unlink()
    outcome = run("doctor", "--json", "--model", toy_copy)
    told = json.loads(outcome.out)
    assert outcome.code == 1
    findings = {finding["what"]: Diagnosis(**finding) for finding in told["findings"]}
    assert {"Python", "packages", "RAM", "disk", "schemes", "video", "model", "cache"} <= {*findings}
    assert findings["model"].state == "fix"
    assert "has no tokenizer.json" in findings["model"].said
    assert "profile" not in findings  # the model's line says why
    assert told["surroundings"]["torch"]["version"] == torch.__version__
    assert {trial["name"]: trial["outcome"] for trial in told["surroundings"]["trials"]} == {
        "nf4": "works",
        "mp4": "works",
    }


@pytest.mark.parametrize("ill", [None, "no card at all", "broken bitsandbytes"])
def test_the_exit_code_says_whether_there_is_something_to_fix(run, monkeypatch, ill):
    surroundings = ILL[ill][0] if ill else WELL
    monkeypatch.setattr(look, "gather", lambda *_: (event for event in (look.Seen("system"), surroundings)))
    outcome = run("doctor")
    lines = outcome.out.splitlines()
    assert outcome.code == (ill == "broken bitsandbytes")
    assert lines[-1] == ("1 to fix" if outcome.code else "nothing to fix")
    assert {line[:4].strip() for line in lines[:-1]} == {"ok", *({"note"} if ill == "no card at all" else ())} | (
        {"fix", ""} if outcome.code else set()
    )
    assert lines[0] == "ok    Python          3.12.1 on Linux"
    if outcome.code:
        (place,) = [index for index, line in enumerate(lines) if line.startswith("fix   schemes")]
        assert lines[place + 1] == f"{'':22}→ python -m pip install --force-reinstall --no-deps bitsandbytes"
