"""`holo-lite profiles` and `holo-lite plan` from outside."""

import functools
import json
import re
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from toy_files import toy_model

from holo_lite import FitError, ModelOptions, Options, Shot, Storyboard
from holo_lite.commands.generate import generate
from holo_lite.commands.plan import plan
from holo_lite.plan import rate as rate_module
from holo_lite.plan.machine import Machine
from holo_lite.plan.phases import granted
from holo_lite.plan.profile import GIB
from holo_lite.plan.released import released_sizes
from holo_lite.preflight.comparison import compare
from holo_lite.preflight.forecast import forecast
from holo_lite.story.files import load_storyboard
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.system.units import duration_text, span_text
from holo_lite.views.comparison import comparison_lines
from holo_lite.views.forecast import forecast_lines

BOARD = "[global caption] A house by the sea. [per shot caption] wide shot [shot cut] close shot"
PHASES = ["text", "high-noise", "low-noise", "decode"]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine without a card, no benchmark, and nothing remembered of one."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
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
    assert found[3].split() == ["8gb", "7.0", "GiB", "nf4", "joint", "17/40", "1085", "frames", "473", "frames"]
    assert "17/40" in found[3]


def test_profiles_on_a_machine_without_memory(run, monkeypatch):
    monkeypatch.setattr(
        "holo_lite.plan.machine.this_machine", lambda: Machine("this CPU", ram=4 * GIB, ram_free=GIB)
    )
    assert "too little memory is free" in lines(run("profiles"))[8]


def test_a_plan_for_a_named_card(run):
    found = lines(run("plan", BOARD, "--gpu", "rtx 4090"))
    assert re.fullmatch(
        r"fits on RTX 4090: about \d h \d+ min \(arithmetic by NVIDIA's figure, not measured\)", found[0]
    )
    assert found[1] == "video: 16.1 s (241 frames at 15 fps), 832×480, 2 shots, 50 steps"
    assert found[2].startswith("memory: at most ")
    assert "model: HoloCine-14B sparse in int8" in found
    why = "profile 24gb: 24.0 of 24.0 GiB free on RTX 4090, RAM not known, int8 preferred: all blocks stay"
    assert why in found
    rows = table(found)
    assert list(rows) == PHASES
    assert [rows[name][1] for name in PHASES] == ["2", "21", "29", "1"]
    text = " ".join(found)
    text = " ".join(text.split())
    for said in (
        "40 of 40 blocks",
        "by NVIDIA's figure, not measured: 50% (assumed) of the 165.2 TFLOPS that NVIDIA states for the RTX 4090",
        "most that fits: ",
    ):
        assert said in text


def test_streaming_is_compared_with_the_link(run):
    text = " ".join(line.strip() for line in lines(run("plan", BOARD, "--gpu", "5070", "--profile", "6gb")))
    assert re.search(
        r"streaming: costs no time: needs \S+ .B/s from RAM, of which \S+ .B/s from disk "
        r"\(PCIe gives at most 63.02 GB/s\)",
        text,
    )


@pytest.mark.parametrize(("frames", "card", "needs"), [(241, "4090", "MB"), (33, "5090", "GB")])
def test_what_the_first_step_reads_is_told_with_what_hides_it(run, frames, card, needs):
    """A long clip hides it behind its arithmetic, a short one on a fast card needs a fast disk."""
    found = " ".join(line.strip() for line in lines(run("plan", "a road", "--gpu", card, "--frames", frames)))
    said = r"first step of each expert: reads all of it from disk, \S+ GB; costs no time if the disk gives \S+"
    assert re.search(f"{said} {needs}/s", found)


def test_a_named_card_and_a_named_profile_both_count(run):
    """The profile's budget, and no more than the card has; the card's rates."""
    small = text_of(run("plan", BOARD, "--gpu", "4090", "--profile", "8gb"))
    assert "profile 8gb: as asked, on a free RTX 4090 " in small
    assert "of 7.00 GiB that may be used" in small
    assert "165.2 TFLOPS" in small
    large = text_of(run("plan", BOARD, "--gpu", "RTX 3080", "--profile", "24gb"))
    assert "profile 24gb: as asked, on a free RTX 3080 " in large
    assert "of 9.00 GiB that may be used" in large
    assert "59.5 TFLOPS" in large


def test_a_card_without_a_confirmed_rate_gets_no_time_and_the_reason(run):
    found = lines(run("plan", BOARD, "--gpu", "RTX 6000 Ada"))
    assert found[0] == (
        "fits on RTX 6000 Ada; how long it takes is not known: published figures for it differ by a factor of"
    )
    assert all(row[3] == "-" for row in table(found).values())


def test_a_rate_from_cores_and_clock_is_told_as_one(run):
    found = text_of(run("plan", BOARD, "--gpu", "RTX 4060"))
    assert "25.5 TFLOPS" not in found
    assert "of the 30.2 TFLOPS that follow from the cores and boost clock of the RTX 4060" in found


def test_a_machine_without_a_card_plans_for_its_processor(run):
    found = lines(run("plan", BOARD))
    assert re.fullmatch(r"fits on this CPU: about \d+ days.* \(arithmetic at the rate measured here\)", found[0])
    assert "profile cpu: no CUDA card here, 64.00 GiB of RAM, nf4 preferred: all blocks stay" in found
    assert any("peak RAM" in line for line in found)
    assert "measured on this CPU: 1 TFLOPS linear, 0.5 attention" in " ".join(found)


def test_a_named_profile_without_a_card_gives_memory_and_no_time(run):
    found = lines(run("plan", BOARD, "--profile", "16gb"))
    assert found[0].startswith("fits on profile 16gb; how long it takes is not known: no card is known; give --gpu")
    assert "profile 16gb: as asked" in found


def test_a_machine_with_a_card_is_measured(run, monkeypatch):
    own = Machine("GeForce", 12 * GIB, 11 * GIB, 32 * GIB, 30 * GIB)
    monkeypatch.setattr("holo_lite.preflight.target.this_machine", lambda *_: own)
    found = lines(run("plan", BOARD))
    assert found[0].startswith("fits on GeForce: about ")
    assert any(line.startswith("profile 12gb: 11.0 of 12.0 GiB free on GeForce") for line in found)
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
    assert found[1] == "video: 10.1 s (121 frames at 12 fps), 512×320, 2 shots, 8 steps without guidance"
    assert "model: HoloCine-14B full in int8" in found
    assert [row[1] for row in table(found).values()] == ["1", "4", "4", "1"]


def test_a_model_of_ones_own(run, cache):
    found = lines(run("plan", BOARD, "--model", toy_model(cache), "--profile", "8gb", "--gpu", "4090"))
    assert f"model: {toy_model(cache).name} sparse in fp32" in found
    assert "(49 frames at 15 fps), 112×64, 2 shots, 8 steps" in found[1]
    assert "3 of 3 blocks stay on the device, and 3 of the next expert's" in " ".join(" ".join(found).split())


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
    slot = released_sizes(found.plan.scheme).slot
    assert found.rows["resident blocks"] == found.plan.resident * granted(slot, found.plan.device)


def test_plan_takes_what_generate_takes():
    own = {"out", "draft", "seeds", "preview", "keep_run", "overwrite", "progress", "dry_run"}
    own |= {"quiet", "verbose", "latents"}
    shared = {name for option in generate.params if option.name not in own for name in option.opts}
    assert shared | {"--gpu", "--json"} <= {name for option in plan.params for name in option.opts}


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
        (("--gpu", "RTX 9090"), "unknown; did you mean 'RTX 5090'?"),
        (("--gpu", "4090", "--gpu", "GTX 1080"), "'GTX 1080': unknown; give a profile of its size instead"),
        (
            ("--gpu", "2080 Ti"),
            "graphics card 'RTX 2080 Ti': cannot compute in bf16 (it has compute capability 7.5",
        ),
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
    said = [span_text(s) for s in (0.2, 42, 59.6, 3599, 3600, 5354, 200_000)]
    assert said == ["1 s", "42 s", "1 min", "1 h", "1 h", "1 h 29 min", "2 days 8 h"]


# --- several cards, and programs -------------------------------------------------------------------

PLAN_FIELDS = {
    *("gpu", "fits", "place", "seconds", "measured", "basis", "model", "clip", "settings", "notes", "computing"),
    *("why", "plan", "denoising", "phases", "streaming", "first_step", "longest", "largest"),
}


def test_several_cards_are_rows_that_say_what_each_says_alone(run):
    words = ("--frames", 961)
    together = lines(run("plan", BOARD, "--gpu", "4090", "--gpu", "rtx 3050 6gb", "--gpu", "3060", *words))
    assert together[0] == "fits on 2 of 3 cards"
    rows = {line[:13].strip(): line for line in together if line.startswith("RTX ")}
    for name in ("RTX 4090", "RTX 3060"):
        alone = run("plan", BOARD, "--gpu", name, *words).out
        scheme, blocks, peak, unit, *time = rows[name].partition("yes")[2].replace(" + ", "+").split()
        assert f"about {' '.join(time)} (" in alone
        assert f"at most {peak} {unit} of " in alone
        assert f" in {scheme}\n" in alone
        resident, _, of = blocks.partition("+")[0].partition("/")
        assert f"{resident} of {of} blocks stay" in alone
    refused = mistake(run("plan", BOARD, "--gpu", "RTX 3050 6 GB", *words))
    need = re.search(r"need (\S+ GiB) for denoising", refused)[1]
    assert f"no    needs {need} for denoising, has " in rows["RTX 3050 6 GB"]


def test_a_clip_that_fits_no_card_ends_with_2(run):
    outcome = run("plan", BOARD, "--gpu", "2060", "--gpu", "RTX 3050 6 GB", "--frames", 2401)
    assert (outcome.code, outcome.err) == (2, "")
    assert outcome.out.startswith("fits on 0 of 2 cards\n")
    assert "no bf16: needs an RTX 30xx, an A100, or later" in outcome.out


def test_the_record_for_a_program_holds_what_the_page_says(run):
    (line,) = run("plan", BOARD, "--gpu", "4090", "--gpu", "2060", "--json").out.splitlines()
    record = json.loads(line)
    assert [record[key] for key in ("version", "kind", "fits")] == [1, "plan", True]
    good, bad = record["plans"]
    assert set(good) == PLAN_FIELDS
    assert good["clip"] == pytest.approx(
        {"frames": 241, "seconds": 241 / 15, "width": 832, "height": 480, "shots": 2, "steps": 50}
    )
    assert good["seconds"] == pytest.approx(sum(phase["seconds"] for phase in good["phases"].values()))
    first, steps = good["first_step"], good["phases"]["high_noise"]
    assert first["needed"] == pytest.approx(max(first["read"].values()) * steps["steps"] / steps["seconds"])
    assert good["longest"]["typed"].startswith("--frames ")
    assert (bad["gpu"], bad["fits"], set(bad)) == ("RTX 2060", False, {"gpu", "fits", "why_not", "in_short"})


def test_every_field_of_the_record_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text(encoding="utf-8")
    assert [name for name in PLAN_FIELDS | {"why_not", "in_short"} if f"`{name}`" not in page] == []


@pytest.mark.parametrize("gpus", [("RTX 4090",), ("RTX 4090", "RTX 3050 6 GB", "RTX 4070 Ti SUPER", "RTX 2080 Ti")])
@given(width=st.integers(20, 140))
def test_no_line_is_wider_than_the_page(outlooks_of, gpus, width):
    outlooks = outlooks_of(gpus)
    found = comparison_lines(outlooks, width) if len(gpus) > 1 else forecast_lines(outlooks[0].forecast, width)
    assert max(map(len, found)) <= min(max(width, 60), 100)


@pytest.fixture(scope="module")
def outlooks_of():
    """Outlooks of cards by their names, each planned once."""
    return functools.cache(lambda gpus: compare(load_storyboard(BOARD), gpus=gpus))


# --- what is advised can be typed ------------------------------------------------------------------

TIMINGS = st.one_of(
    st.builds(lambda shots: {"shots": [{}] * shots}, st.integers(1, 8)),
    st.builds(
        lambda lengths: {"shots": [{"frames": length} for length in lengths]},
        st.lists(st.integers(5, 90), min_size=1, max_size=8),
    ),
    st.builds(
        lambda lengths: {"shots": [{"seconds": length / 10} for length in lengths]},
        st.lists(st.integers(5, 60), min_size=1, max_size=8),
    ),
    st.builds(
        lambda gaps: {"shots": [{}] * len(gaps), "cuts": tuple(accumulate(gaps[:-1])), "frames": sum(gaps)},
        st.lists(st.integers(5, 90), min_size=2, max_size=8),
    ),
)


@settings(max_examples=25, deadline=None)
@given(TIMINGS, st.sampled_from(["6gb", "8gb", "12gb"]), st.sampled_from([(480, 832), (1088, 1920)]))
def test_what_is_advised_can_be_typed_and_fits(timing, profile, size):
    """Both for a clip that fits and in a refusal, as it is written there."""
    shots = tuple(Shot("a road", **shot) for shot in timing["shots"])
    board = Storyboard("A road.", shots, cuts=timing.get("cuts"), frames=timing.get("frames"))
    said, how = Options(height=size[0], width=size[1]), ModelOptions(profile=profile)
    try:
        found = forecast(board, said, how=how)
    except FitError as error:
        advised = str(error).partition("what fits: ")[2].split(", or ")
    else:
        advised = [advice.text for advice in (found.longest, found.largest) if advice]
    for text in advised:
        if (taken := typed(board, said, text)) is not None:
            again, values = taken
            assert forecast(again, values, how=how).settings.layout.shots == len(shots)


def typed(board, said, text):
    """Do what an advice says; None: it is about another card."""
    if factor := re.match(r"every shot (?:up to|at most) (\S+) times as long", text):
        return replace(board, shots=tuple(times(shot, float(factor[1])) for shot in board.shots)), said
    words = dict(re.findall(r"--(frames|cuts|width|height) (\S+)", text))
    if not words:
        assert text.startswith("a free card for the profile ")
        return None
    values: dict[str, object] = {name: int(value) for name, value in words.items() if name != "cuts"}
    if "cuts" in words:
        values["cuts"] = tuple(map(int, words["cuts"].split(",")))
    return board, replace(said, **values)


def times(shot, factor):
    """A shot of another length, rounded as a person would."""
    if shot.frames is not None:
        return replace(shot, frames=round(shot.frames * factor))
    return replace(shot, seconds=round(shot.seconds * factor, 1))


def test_a_plan_loads_no_weights(run, cache, monkeypatch):
    model = toy_model(cache)
    monkeypatch.setattr("holo_lite.weights.safetensors_file.SafetensorsFile.load", None)
    lines(run("plan", BOARD, "--model", model))
