"""How a model computes: what is chosen and why, what is remembered, what a video keeps, what a person is told."""

import dataclasses
import json
import logging
import re
from unittest.mock import patch

import pytest
import torch
from kernel_packages import shelf  # noqa: F401 - a fixture
from toy_files import toy_model

from holo_lite import ModelOptions
from holo_lite.config import DiTConfig
from holo_lite.errors import FitError, RoomError, SettingsError
from holo_lite.evaluation.studio import Studio
from holo_lite.events import Finished, Resolved
from holo_lite.film.video import read_metadata
from holo_lite.kernels.attention_choice import KernelChooser
from holo_lite.kernels.computing import choose_computing, foresee_computing
from holo_lite.kernels.kernel import Kernel, KernelLimits, KernelPackage, Site
from holo_lite.kernels.options import ComputeOptions
from holo_lite.kernels.registry import KERNELS
from holo_lite.kernels.trial import PROMPT
from holo_lite.model import equations
from holo_lite.render.pipeline import Pipeline
from holo_lite.settings import Options, RunSettings
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.streaming.experts import StreamedExperts
from holo_lite.system.json_table import ASIDE
from holo_lite.views.remaking import command

CPU = torch.device("cpu")
KERNELS_FILE = "kernels.json"
CARD = Site(CPU, torch.bfloat16, 2, 16, (9, 0), "a card")
ROWS = (12, 40)
PLAIN = {"kernel": "sdpa", "linear": "plain", "fused": "off"}
CONFIG = DiTConfig(dim=32, num_heads=2, ffn_dim=64, num_layers=1)
BOARD = Storyboard("G", (Shot("a"), Shot("b")))
SMALL = Options(frames=9, height=16, width=16, steps=1, cfg=1.0)


class Timed:
    """Kernels that take the time they are told to on a clock of their own, and count how often they are called."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def clock(self):
        return self.now

    def kernel(self, name, seconds, function=equations.attention, **more):
        def attend(q, k, v):
            self.calls.append((name, len(q)))
            self.now += seconds
            return function(q, k, v)

        return Kernel(name, lambda: attend, **more)

    def measured(self):
        """Names of the kernels that were called at the size of a measurement."""
        return {name for name, rows in self.calls if rows == ROWS[0]}


@pytest.fixture
def timed():
    return Timed()


@pytest.fixture
def choose(timed, tmp_path):
    """Choose among kernels, on a card that is none."""

    def choose(*kernels, said="auto", site=CARD):
        timed.calls.clear()
        return KernelChooser(site, tmp_path / "cache", kernels, ROWS, timed.clock).pick(said)

    return choose


def wrong(q, k, v):
    return equations.attention(q, k, v) * 1.1


def raising(*_):
    raise RuntimeError("no kernel image is available\nfor execution on the device")


# --- numbers that a card cannot compute in -----------------------------------------------------------

NO_BF16 = (
    "graphics card 'RTX 2080 Ti': cannot compute in bf16 (it has compute capability 7.5, bf16 needs 8.0: an RTX "
    "30xx, an A100, or later); use another card, or --device cpu; --dtype fp32 works on it, but is slow and needs "
    "twice the memory"
)


@pytest.fixture
def turing(monkeypatch):
    """A card of before there was bf16, on which nothing is to be computed."""
    card = Site(CPU, torch.bfloat16, 2, 16, (7, 5), "RTX 2080 Ti")
    monkeypatch.setattr(Site, "of", lambda _device, dtype, *_heads: dataclasses.replace(card, dtype=dtype))
    return card


def test_a_card_without_bf16_is_refused_before_anything_is_tried_on_it(turing, monkeypatch):
    """PyTorch would write out all scores there: gigabytes in the trial alone, and memory would run out."""
    monkeypatch.setattr(KernelChooser, "pick", lambda *_: pytest.fail("a kernel was tried"))
    with pytest.raises(FitError) as caught:
        choose_computing(ComputeOptions(), CONFIG, device=CPU, dtype=torch.bfloat16)
    assert str(caught.value) == NO_BF16
    with pytest.raises(FitError) as caught:
        foresee_computing(ComputeOptions(), CONFIG, turing, here=True)
    assert str(caught.value) == NO_BF16


def test_such_a_card_computes_in_fp32(turing):
    site = dataclasses.replace(turing, dtype=torch.float32)
    assert foresee_computing(ComputeOptions(), CONFIG, site, here=False).linear == "plain"
    assert [kernel.name for kernel in KERNELS if kernel.refusal(site) is None] == ["sdpa", "efficient"]


@pytest.mark.usefixtures("turing")
def test_generate_refuses_it_in_one_line(run):
    outcome = run("generate", "a road", "--device", "cpu", "--dtype", "bf16")
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"error: {NO_BF16}\n")


# --- the fastest that is right ---------------------------------------------------------------------


def test_the_fastest_right_one_is_taken_and_the_others_are_named(choose, timed):
    picked = choose(
        timed.kernel("sdpa", 0.003),
        timed.kernel("swift", 0.002),
        timed.kernel("slow", 0.009),
        timed.kernel("hasty", 0.001, wrong),
        timed.kernel("torn", 0.001, raising),
        timed.kernel("elsewhere", 0.001, limits=KernelLimits(lowest=(12, 0))),
    )
    assert picked.name == "swift"
    assert picked.why.startswith(
        "kernel swift: the fastest, measured in ms: swift 2.00, sdpa 3.00, slow 9.00; left out: "
    )
    assert (
        "hasty (it gives wrong results here: a row is 0.1 of its length off, rounding explains 0.016)" in picked.why
    )
    assert "torn (RuntimeError: no kernel image is available)" in picked.why
    assert "elsewhere" not in picked.why
    assert len(picked.why.splitlines()) == 1
    picked.attend(*torch.randn(3, 4, 2, 16))
    assert timed.calls[-1] == ("swift", 4)


@pytest.mark.parametrize("keys", [40, PROMPT[1]])
def test_one_that_is_right_for_shots_or_captions_alone_is_left_out(choose, timed, keys):
    def sometimes(q, k, v):
        return (wrong if len(k) == keys else equations.attention)(q, k, v)

    picked = choose(timed.kernel("sdpa", 0.003), timed.kernel("half", 0.001, sometimes))
    assert picked.name == "sdpa"
    assert "left out: half (it gives wrong results here" in picked.why


def test_of_equals_the_first_is_taken(choose, timed):
    assert choose(*(timed.kernel(name, 0.002) for name in ("b", "a", "c"))).name == "b"


def test_a_slow_first_call_is_not_counted(choose, timed):
    """What compiles when it is first called is not slow for that."""
    late = []

    def compiling(q, k, v):
        timed.now += 0 if late else 60
        late.append(1)
        return equations.attention(q, k, v)

    assert choose(timed.kernel("sdpa", 0.002), timed.kernel("compiled", 0.001, compiling)).name == "compiled"


def test_approximate_ones_are_taken_by_name_alone(choose, timed):
    kernels = timed.kernel("sdpa", 0.002), timed.kernel("b", 0.003), timed.kernel("sage", 0.001, wrong, exact=False)
    picked = choose(*kernels)
    assert picked.name == "sdpa"
    assert picked.why.endswith("; approximate, so only by name: sage")
    assert "sage" not in timed.measured()
    named = choose(*kernels, said="sage")
    assert named.name == "sage"
    assert re.fullmatch(r"kernel sage: as asked; it is approximate, with rows up to 10\.\d% off", named.why)


def test_where_there_is_one_nothing_is_measured(choose, timed, tmp_path):
    for site, others in (
        (CARD, ()),
        (Site(CPU, torch.float32, 2, 16), (timed.kernel("a", 1.0, limits=KernelLimits()),)),
    ):
        picked = choose(timed.kernel("sdpa", 0.001), *others, site=site)
        assert (picked.name, timed.calls) == ("sdpa", [])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("function", [wrong, raising])
def test_where_none_is_right_pytorchs_own_goes_on_and_says_so(choose, timed, tmp_path, function):
    picked = choose(timed.kernel("sdpa", 0.001, function), timed.kernel("a", 0.001, function))
    assert picked.name == "sdpa"
    assert picked.attend is equations.attention
    assert picked.why.startswith("kernel sdpa: no other one passed its test (sdpa (")
    assert not (tmp_path / "cache" / KERNELS_FILE).exists(), "the next run looks again"


def test_without_memory_pytorchs_own_goes_on_and_nothing_is_remembered(choose, timed, tmp_path):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    kernels = timed.kernel("sdpa", 0.001), timed.kernel("a", 0.001, full)
    assert choose(*kernels).why == "kernel sdpa: no memory was free to measure others"
    assert not (tmp_path / "cache" / KERNELS_FILE).exists()
    with pytest.raises(torch.OutOfMemoryError):
        choose(*kernels, said="a")


# --- what is remembered ----------------------------------------------------------------------------


def two(timed):
    return timed.kernel("sdpa", 0.003), timed.kernel("swift", 0.002)


def test_a_measurement_is_remembered(choose, timed):
    first = choose(*two(timed))
    assert timed.measured() == {"sdpa", "swift"}
    again = choose(*two(timed))
    assert timed.measured() == set()
    assert (again.name, first.name) == ("swift", "swift")
    assert again.why == first.why.replace("measured in ms", "measured before in ms")


OTHERS = {
    "card": {"card": "another card"},
    "capability": {"capability": (8, 9)},
    "dtype": {"dtype": torch.float16},
    "heads": {"heads": 3},
    "head size": {"head_dim": 32},
}


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_measured_again_for_another(choose, timed, name):
    choose(*two(timed))
    choose(*two(timed), site=dataclasses.replace(CARD, **OTHERS[name]))
    assert timed.measured() == {"sdpa", "swift"}
    choose(*two(timed))
    assert timed.measured() == set(), "and what was known before is still known"


@pytest.mark.parametrize("name", ["torch.__version__", "torch.backends.cudnn.version"])
def test_it_is_measured_again_with_other_software(choose, timed, name):
    choose(*two(timed))
    with patch(name, "9.9.9" if "__" in name else lambda: 99999):
        choose(*two(timed))
    assert timed.measured() == {"sdpa", "swift"}


def test_it_is_measured_again_with_another_package_or_kernel(choose, timed, monkeypatch):
    versions = {"torch": "1.0"}
    monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
    kernels = timed.kernel("sdpa", 0.003), timed.kernel("swift", 0.002, package=KernelPackage("torch", "torch"))
    choose(*kernels)
    versions["torch"] = "1.1"
    choose(*kernels)
    assert timed.measured() == {"sdpa", "swift"}
    choose(*kernels, timed.kernel("new", 0.001))
    assert timed.measured() == {"sdpa", "swift", "new"}


DAMAGES = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "no text": lambda _: "\x00\ufffd",
    "a list": lambda _: "[]",
    "no record": lambda text: json.dumps(dict.fromkeys(json.loads(text), 3)),
    "no times": lambda text: json.dumps({key: {"seconds": {}, "refused": {}} for key in json.loads(text)}),
    "other kernels": lambda text: text.replace('"swift"', '"gone"'),
    "no numbers": lambda text: text.replace('"swift": 0.002', '"swift": "fast"'),
    "negative": lambda text: text.replace('"swift": 0.002', '"swift": -1'),
    "a list of times": lambda text: json.dumps({key: {"seconds": [1], "refused": {}} for key in json.loads(text)}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_memory_is_measured_again_and_mended(choose, timed, tmp_path, damage):
    choose(*two(timed))
    file = tmp_path / "cache" / KERNELS_FILE
    text = file.read_text().replace(str(json.loads(file.read_text()).popitem()[1]["seconds"]["swift"]), "0.002")
    spoilt = DAMAGES[damage](text)
    assert spoilt != text
    file.write_text(spoilt, encoding="utf-8")
    assert choose(*two(timed)).name == "swift"
    assert timed.measured() == {"sdpa", "swift"}
    choose(*two(timed))
    assert timed.measured() == set()
    left = {path.name for path in file.parent.iterdir()}
    assert left <= {KERNELS_FILE, KERNELS_FILE + ASIDE}, "nothing half-written stays"


def test_a_memory_that_cannot_be_written_is_a_warning(choose, timed, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert choose(*two(timed)).name == "swift"
    assert "how fast attention kernels are on this machine: not kept" in caplog.text


def test_a_remembered_kernel_that_broke_since_is_measured_again(choose, timed):
    choose(*two(timed))
    picked = choose(timed.kernel("sdpa", 0.003), timed.kernel("swift", 0.002, raising))
    assert picked.name == "sdpa"
    assert "left out: swift (RuntimeError: no kernel image is available)" in picked.why
    assert choose(*two(timed)).why.startswith("kernel sdpa: the fastest, measured before"), (
        "until something changes"
    )


# --- asked for by name -----------------------------------------------------------------------------


def test_a_named_kernel_is_tried_on_few_rows_and_taken_however_slow(choose, timed):
    picked = choose(*two(timed), said="sdpa")
    assert (picked.name, picked.why) == ("sdpa", "kernel sdpa: as asked")
    assert {name for name, _ in timed.calls} == {"sdpa"}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (wrong, "kernel 'swift': it gives wrong results here: a row is 0.1 of its length off"),
        (raising, "kernel 'swift': RuntimeError: no kernel image is available; here you can use auto, sdpa, swift"),
    ],
)
def test_a_named_kernel_that_does_not_do_is_refused_at_once(choose, timed, function, said):
    with pytest.raises(SettingsError) as caught:
        choose(timed.kernel("sdpa", 0.003), timed.kernel("swift", 0.002, function), said="swift")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# --- from what is said to what the layers take -----------------------------------------------------


def test_on_a_cpu_auto_is_the_plain_way_without_a_word():
    found = choose_computing(ComputeOptions(), CONFIG, device=CPU, dtype=torch.float32)
    assert (found.record, found.lines) == (PLAIN, ())
    assert found.compute.attention is equations.attention
    asked = choose_computing(found.choice, CONFIG, device=CPU, dtype=torch.float32)
    assert (asked.record, asked.choice) == (found.record, ComputeOptions("sdpa", "bf16", "off"))
    assert asked.lines[0] == "kernel sdpa: as asked"
    assert len(asked.lines) == 3


def test_no_memory_to_try_it_costs_one_line(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB.\nSee documentation")

    monkeypatch.setattr(KernelChooser, "pick", full)
    with pytest.raises(
        RoomError, match=r"^memory ran out while kernels were tried; close other programs and try again$"
    ):
        choose_computing(ComputeOptions(), CONFIG, device=CPU, dtype=torch.float32)


class Counted:
    """A kernel, and how often it was called."""

    def __init__(self):
        self.calls = 0
        self.attention = equations.attention

    def __call__(self, q, k, v):
        self.calls += 1
        return self.attention(q, k, v)


@pytest.fixture
def counted(monkeypatch):
    """What kernel `sdpa` brings in; whoever chooses nothing has the function that stood there before."""
    kernel = Counted()
    monkeypatch.setattr(equations, "attention", kernel)
    return kernel


def test_a_runs_layers_use_the_chosen_kernel_and_its_settings_say_so(cache, tmp_path, counted):
    pipeline = Pipeline.load(toy_model(cache), ModelOptions(kernel="sdpa"))
    events = list(pipeline.generate(BOARD, tmp_path / "a.mp4", SMALL))
    assert counted.calls > 0
    resolved, done = events[0], events[-1]
    assert isinstance(resolved, Resolved)
    assert isinstance(done, Finished)
    assert resolved.computing == ("kernel sdpa: as asked",)
    kept = RunSettings.from_json(read_metadata(done.video))
    assert kept.computing == resolved.settings.computing == PLAIN


def test_the_gates_layers_use_the_chosen_kernel(cache, counted):
    studio = Studio(Pipeline.load(toy_model(cache), ModelOptions(kernel="sdpa")))
    with (
        StreamedExperts(studio.pipeline.model.experts, {"high_noise": 1}) as experts,
        experts.lend("high_noise") as model,
    ):
        assert model.compute.attention is counted


def test_a_run_taken_up_computes_as_it_was_begun(cache):
    pipeline = Pipeline.load(toy_model(cache))
    opening = pipeline.model.resolved
    assert (opening.kernel, opening.compute, opening.fuse) == ("sdpa", "bf16", "off")


# --- what a video keeps ----------------------------------------------------------------------------


def settings_of(**more):
    return RunSettings(
        storyboard=BOARD,
        frames=9,
        cuts=(5,),
        height=16,
        width=16,
        fps=15.0,
        steps=1,
        cfg=1.0,
        seed=0,
        negative="",
        attention="sparse",
        dtype="bf16",
        model="0123",
        **{"device": "cuda", **more},
    )


@pytest.mark.parametrize(
    ("device", "computing", "said"),
    [
        ("cuda", {}, ""),
        ("cpu", PLAIN, ""),
        ("cuda", PLAIN, " --kernel sdpa --compute bf16 --fuse off"),
        ("cuda", {"kernel": "sage", "linear": "fp8", "fused": "on"}, " --kernel sage --compute fp8 --fuse on"),
        ("cpu", {**PLAIN, "linear": "int8"}, " --compute int8"),
    ],
)
def test_the_printed_command_says_what_auto_might_not(device, computing, said):
    assert command(settings_of(device=device, computing=computing)).endswith(f"--dtype bf16{said}")


def test_settings_from_before_there_was_a_choice_are_read():
    found = json.loads(settings_of().to_json())
    del found["computing"]
    assert RunSettings.from_json(json.dumps(found)).computing == {}


# --- on the command line ---------------------------------------------------------------------------

MISTAKES = {
    (
        "--kernel",
        "flsh",
    ): "kernel 'flsh': unknown; here you can use auto, sdpa; did you mean 'flash'?",
    ("--kernel", "cudnn"): "kernel 'cudnn': it runs on CUDA cards only; here you can use auto, sdpa",
    ("--kernel", "sage"): "kernel 'sage': it runs on CUDA cards only; here you can use auto, sdpa",
    ("--compute", "fp4"): "compute 'fp4': ",
    ("--fuse", "yes"): "fuse 'yes': ",
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
@pytest.mark.parametrize(
    "verb", [("generate", "a road"), ("evaluate", "--storyboards", 1)], ids=lambda verb: verb[0]
)
def test_a_mistake_is_one_line(run, toy_copy, verb, words):
    outcome = run(*verb, "--model", toy_copy, "--device", "cpu", *words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {MISTAKES[words]}")


def test_what_was_asked_for_is_said_and_kept(run, toy_copy, tmp_path):
    size = ("--frames", 5, "--height", 16, "--width", 16, "--steps", 1, "--cfg", 1)
    words = ("--kernel", "sdpa", "--compute", "int8", "--device", "cpu")
    outcome = run("generate", "a road", "--model", toy_copy, *size, *words)
    assert (outcome.code, outcome.out) == (0, "")
    lines = outcome.err.splitlines()
    assert lines[2] == "kernel sdpa: as asked", "after the plan's profile"
    assert lines[3].startswith("compute int8: as asked")
    kept = RunSettings.from_json(read_metadata(tmp_path / "video.mp4"))
    assert kept.computing == {**PLAIN, "linear": "int8"}
    printed = run("inspect", "video.mp4").out
    assert "--compute int8" in printed
    assert "--kernel" not in printed, "which auto comes to anyway"
