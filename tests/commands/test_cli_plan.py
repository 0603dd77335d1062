"""`holo-lite profiles` and `holo-lite plan` from outside."""

import re

import pytest
from toy_files import toy_model

from holo_lite import ModelOptions
from holo_lite.commands.generate import generate
from holo_lite.commands.plan import plan
from holo_lite.plan import rate as rate_module
from holo_lite.plan.machine import Machine
from holo_lite.plan.profile import GIB
from holo_lite.plan.released import released_sizes
from holo_lite.preflight.forecast import forecast
from holo_lite.story.files import load_storyboard
from holo_lite.system.units import duration_text

BOARD = "[global caption] A house by the sea. [per shot caption] wide shot [shot cut] close shot"
PHASES = ["text", "high-noise", "low-noise", "decode"]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without a card, and no benchmark."""
    found = Machine("this CPU", None, None, 64 * GIB, 40 * GIB)
    for place in ("preflight.target", "plan.machine"):  # `plan` and `profiles` ask there
        monkeypatch.setattr(f"holo_lite.{place}.this_machine", lambda *_: found)
    monkeypatch.setattr(rate_module, "measure", lambda _: (1e12, 5e11))
    monkeypatch.setattr(rate_module, "measure_eight_bit", lambda *_: 2e12)


def lines(outcome):
    assert (outcome.code, outcome.err) == (0, "")
    found = outcome.out.splitlines()
    assert all(len(line) <= 100 for line in found)
    return found


def text_of(outcome):
    """Its lines as one, however they were broken."""
    return " ".join(" ".join(lines(outcome)).split())


def mistake(outcome):
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    return line


def table(found):
    return {
        line.split()[0]: re.split(r"\s{2,}", line.strip())
        for line in found
        if line.split()[:1] and line.split()[0] in PHASES
    }


def test_profiles_lists_what_each_can_run(run):
    found = lines(run("profiles"))
    assert [line.split()[0] for line in found[2:9]] == ["6gb", "8gb", "12gb", "16gb", "24gb", "32gb", "cpu"]
    assert found[3].split() == ["8gb", "7.0", "GiB", "nf4", "joint", "17/40", "1089", "frames", "477", "frames"]
    assert "17/40" in found[3]


def test_profiles_on_a_machine_without_memory(run, monkeypatch):
    monkeypatch.setattr(
        "holo_lite.plan.machine.this_machine", lambda: Machine("this CPU", ram=4 * GIB, ram_free=GIB)
    )
    assert "too little memory is free" in lines(run("profiles"))[8]


def test_a_plan_for_a_named_card(run):
    found = lines(run("plan", BOARD, "--gpu", "rtx 4090"))
    assert (
        found[0]
        == "profile 24gb: 24.0 of 24.0 GiB free on RTX 4090, RAM not known, int8 preferred: all blocks stay"
    )
    assert found[1] == "HoloCine-14B sparse in int8: 241 frames at 832×480 in 2 shots, 50 steps"
    rows = table(found)
    assert list(rows) == PHASES
    assert [rows[name][1] for name in PHASES] == ["2", "21", "29", "1"]
    text = " ".join(found)
    for said in (
        "40 of 40 blocks",
        "an estimate: 50% (assumed, not measured) of the 165.2 TFLOPS",
        "most that fits: ",
    ):
        assert said in text


def test_streaming_is_compared_with_the_link(run):
    text = " ".join(line.strip() for line in lines(run("plan", BOARD, "--gpu", "5070", "--profile", "6gb")))
    assert re.search(
        r"costs no time if weights arrive at \d\.\d\d GB/s \(PCIe gives at most 63\.0\), "
        r"\d\.\d\d GB/s of them from disk",
        text,
    )


def test_a_named_card_and_a_named_profile_both_count(run):
    """The profile's budget, and no more than the card has; the card's rates."""
    small = " ".join(lines(run("plan", BOARD, "--gpu", "4090", "--profile", "8gb")))
    assert small.startswith("profile 8gb: as asked, on a free RTX 4090 ")
    assert "a budget of 7.00 GiB" in small
    assert "165.2 TFLOPS" in small
    large = " ".join(lines(run("plan", BOARD, "--gpu", "RTX 3080", "--profile", "24gb")))
    assert large.startswith("profile 24gb: as asked, on a free RTX 3080 ")
    assert "a budget of 9.00 GiB" in large
    assert "59.5 TFLOPS" in large


def test_a_card_without_a_cited_rate_gets_no_time(run):
    found = lines(run("plan", BOARD, "--gpu", "RTX 4060"))
    assert found[0].startswith("profile 8gb: ")
    assert all(row[-1] == "-" for row in table(found).values())
    assert "time: no rate is known for this card" in " ".join(found)


def test_a_machine_without_a_card_plans_for_its_processor(run):
    found = lines(run("plan", BOARD))
    assert found[0] == "profile cpu: no CUDA card here, 64.00 GiB of RAM, nf4 preferred: all blocks stay"
    assert any("peak RAM" in line for line in found)
    assert "measured on this CPU: 1 TFLOPS linear, 0.5 attention" in " ".join(found)


def test_a_named_profile_without_a_card_gives_memory_and_no_time(run):
    found = lines(run("plan", BOARD, "--profile", "16gb"))
    assert found[0] == "profile 16gb: as asked"
    assert "time: no rate is known" in " ".join(found)


def test_a_machine_with_a_card_is_measured(run, monkeypatch):
    own = Machine("GeForce", 12 * GIB, 11 * GIB, 32 * GIB, 30 * GIB)
    monkeypatch.setattr("holo_lite.preflight.target.this_machine", lambda *_: own)
    found = lines(run("plan", BOARD))
    assert found[0].startswith("profile 12gb: 11.0 of 12.0 GiB free on GeForce")
    assert "measured on GeForce" in " ".join(found)
    assert "measured on this CPU" in " ".join(lines(run("plan", BOARD, "--profile", "cpu")))


def test_every_option_reaches_the_plan(run):
    words = (
        "--frames",
        121,
        "--cuts",
        "61",
        "--height",
        320,
        "--width",
        512,
        "--fps",
        12,
        "--steps",
        8,
        "--cfg",
        1,
    )
    found = lines(run("plan", BOARD, "--gpu", "3090", *words, "--attention", "full"))
    assert found[1] == "HoloCine-14B full in int8: 121 frames at 512×320 in 2 shots, 8 steps without guidance"
    assert [row[1] for row in table(found).values()] == ["1", "4", "4", "1"]


def test_a_model_of_ones_own(run, cache):
    found = lines(run("plan", BOARD, "--model", toy_model(cache), "--profile", "8gb", "--gpu", "4090"))
    assert found[1] == f"{toy_model(cache).name} sparse in fp32: 49 frames at 112×64 in 2 shots, 8 steps"
    assert "3 of 3 blocks and 3 of the next expert's" in " ".join(found)


def test_8_bit_products_are_planned_and_counted(run):
    """Less room in a layer for activations, more for its weights; and no rate that nobody has measured."""
    words = ("--gpu", "4090", "--profile", "8gb")
    plain, coded = (text_of(run("plan", BOARD, *words, *more)) for more in ((), ("--compute", "int8")))
    assert "compute bf16: matches the stored weights; this card can also do fp8 and int8, at a small cost" in plain
    assert "compute int8: as asked" in coded
    assert "products in int8 counted as no faster than others" in coded
    ready = [re.search(r"([\d.]+ .iB) its unpacked weights", text)[1] for text in (plain, coded)]
    assert ready == ["200.00 MiB", "100.08 MiB"]


def test_auto_plans_for_what_the_weights_are_stored_in(run):
    """As `generate` would decide on that card."""
    said = (
        "compute int8: matches the stored weights (activations are rounded to 8 bits too; --compute bf16 keeps them"
    )
    assert said in text_of(run("plan", BOARD, "--gpu", "4090"))


def test_8_bits_are_timed_at_their_own_rate_here(run):
    found = text_of(run("plan", BOARD, "--compute", "int8"))
    assert "compute int8: as asked; on a CPU this is slower, and only shows what it costs the picture" in found
    assert "measured on this CPU: 1 TFLOPS linear, 0.5 attention, 2 in int8" in found


def test_an_attention_kernel_that_holds_something_is_planned_with_it(run):
    words = ("--gpu", "5090", "--profile", "8gb", "--frames", 33)
    plain, sage = (text_of(run("plan", BOARD, *words, *more)) for more in ((), ("--kernel", "sage")))
    work = [float(re.search(r"([\d.]+) MiB working memory of a layer", text)[1]) for text in (plain, sage)]
    assert work[1] > 1.4 * work[0]
    assert "kernel sage: as asked" in sage
    assert "sage counted as PyTorch's own attention" in sage


def test_what_denoising_takes_adds_up():
    found = forecast(load_storyboard(BOARD), how=ModelOptions(profile="12gb", compute="fp8"))
    peak = max(found.plan.high_noise.peak, found.plan.low_noise.peak)
    assert sum(found.rows.values()) == peak
    assert found.rows["resident blocks"] == found.plan.resident * released_sizes(found.plan.scheme).slot


def test_plan_takes_what_generate_takes():
    shared = {name for option in generate.params for name in option.opts}
    own = {"--out", "--draft", "--seeds", "--preview", "--keep-run", "--overwrite", "--again", "--progress"}
    assert shared - own <= {name for option in plan.params for name in option.opts}


def test_tiles_are_said_with_their_memory(run, tmp_path):
    from test_profiles import own_file

    found = " ".join(lines(run("plan", BOARD, "--gpu", "4090", "--profile", own_file(tmp_path, tiling='"always"'))))
    assert (
        "decode: in overlapping tiles of 52×30 latents, blended; their caches take 3.96 GiB of main memory" in found
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profile", "8gbb"), "did you mean '8gb'?"),
        (("--profile", "10gb"), "; the nearest is '8gb', and auto takes all that is free"),
        (("--profile", "cpu", "--gpu", "4090"), "profile cpu: computes on no card; leave out --gpu"),
        (("--gpu", "RTX 9090"), "unknown"),
        (("--attention", "spars"), "did you mean 'sparse'?"),
        (("--profile", "6gb", "--frames", 2401), "2401 frames at 832×480 need "),
        (("--model", "nowhere"), "no such folder"),
        (("--height", 481), "the nearest is 480"),
        (("--gpu", "3090", "--compute", "fp8"), "needs an RTX 40xx, an H100, or later"),
        (("--gpu", "5090", "--kernel", "flash-attn-3"), "compute capability 8.0 to 9.0"),
        (("--kernel", "flash"), "it runs on CUDA cards only; here you can use auto, sdpa"),
        (("--kernel", "flush", "--gpu", "3090"), "did you mean 'flash'?"),
        (("--compute", "int9"), "did you mean 'int8'?"),
        (("--fuse", "of"), "fuse 'of': give one of auto, on, off"),
        (("--gpu", "3090", "--device", "cpu"), "--device names this machine, --gpu another one"),
        (("--device", "cuda"), "PyTorch sees no CUDA card here"),
        (("--dtype", "fp32"), "--dtype fp32: needs a model"),
    ],
)
def test_what_cannot_be_is_told_on_one_line(run, words, said):
    assert said in mistake(run("plan", BOARD, *words))


def test_times_as_people_write_them():
    assert [duration_text(s) for s in (0.2, 61, 3725, 200_000)] == ["0:00", "1:01", "1:02:05", "2.3 days"]


def test_a_plan_loads_no_weights(run, cache, monkeypatch):
    model = toy_model(cache)
    monkeypatch.setattr("holo_lite.weights.safetensors_file.SafetensorsFile.load", None)
    lines(run("plan", BOARD, "--model", model))
