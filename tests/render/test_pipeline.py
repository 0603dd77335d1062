"""From a storyboard to a video: in order, repeatable, one network at a time, on files as they come."""

import json
import shlex
import shutil
import weakref
from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from toy_files import toy_model
from whole_models import PUBLISHED, write_holes

from holo_lite import MemorySink, ModelOptions, Options, Pipeline, RunSettings, Shot, Storyboard, finish, latents_of
from holo_lite.config import HOLOCINE_14B, PUBLISHED_NEGATIVE
from holo_lite.errors import CheckpointError, OutputError, RunError, SettingsError
from holo_lite.events import Finished, FrameDone, PhaseStarted, Resolved, StepDone, SteppedDown
from holo_lite.film.vae_files import check_vae
from holo_lite.film.video import probe, read_metadata
from holo_lite.model.load import check_expert
from holo_lite.sampling import sampler
from holo_lite.streaming.experts import StreamedExperts
from holo_lite.streaming.lane import PinError
from holo_lite.streaming.lanes import CpuLane
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.text.encoder import TextEncoder
from holo_lite.text.encoder_shapes import check_text_encoder
from holo_lite.text.encoder_sizes import UMT5_XXL
from holo_lite.tiny.model import tiny_model

TESTS = Path(__file__).parents[1]
PROMPTS = json.loads((TESTS / "parity_data" / "prompts.json").read_text(encoding="utf-8"))
BOARD = Storyboard("A house by the sea.", (Shot("wide shot of the house"), Shot("close shot of the door")))
SMALL = Options(frames=9, height=16, width=32, steps=3)


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


def generate(pipeline, out, board=BOARD, options=SMALL):
    return list(pipeline.generate(board, out, options))


def frames(video):
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def same(one, other):
    return len(one) == len(other) and all((a == b).all() for a, b in zip(one, other, strict=True))


def changed(**values):
    return Options(**{**vars(SMALL), **values})


# --- events ----------------------------------------------------------------------------------------


def test_events_come_in_the_order_of_the_work(toy, tmp_path):
    events = generate(toy, tmp_path / "a.mp4")
    steps, shown = events[3:6], events[8:17]
    assert isinstance(events[0], Resolved)
    assert events[1:3] == [PhaseStarted("text", 0), PhaseStarted("denoise", 3)]
    assert [event.progress.step.index for event in steps] == [0, 1, 2]
    assert {tuple(event.progress.latents.shape) for event in steps} == {(16, 3, 2, 4)}
    assert events[6:8] == [PhaseStarted("load", 0, subject="the decoder"), PhaseStarted("decode", 9)]
    assert [event.index for event in shown] == list(range(9))
    assert {(tuple(event.pixels.shape), event.pixels.dtype) for event in shown} == {((16, 32, 3), torch.uint8)}
    assert events[17:] == [Finished(tmp_path / "a.mp4", tmp_path / "a.png", events[0].settings)]
    assert sum(step.seconds for step in steps) < events[-1].seconds < 3600
    assert list(events[0].work) == ["text", "denoise", "decode"]


def test_notes_and_settings_are_told_first(toy, tmp_path):
    first = next(toy.generate(BOARD, tmp_path / "a.mp4", changed(frames=10, cuts=(6,))))
    rounded, found = first.notes
    assert rounded == "rounded length 10 → 9, cut 6 → 5: cuts and length must be 1, 5, 9, 13, …"
    assert found.startswith("short shot: shot 2 has 4 frames, one latent frame")
    assert (first.settings.frames, first.settings.cuts) == (9, (5,))


@pytest.mark.parametrize("kind", [Resolved, PhaseStarted, StepDone, FrameDone])
@pytest.mark.parametrize("count", [1, 2])
def test_closing_at_any_point_cancels_and_leaves_nothing(toy, tmp_path, kind, count):
    run = toy.generate(BOARD, tmp_path / "a.mp4", SMALL)
    seen = 0
    for event in run:
        seen += isinstance(event, kind)
        if seen == count or isinstance(event, FrameDone):
            break
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_events_that_were_taken_before_are_an_error_that_says_so(toy):
    run = toy.generate("a house", MemorySink(), SMALL)
    run.close()
    with pytest.raises(RunError, match="it was finished or closed before; call generate for another"):
        finish(run)
    with pytest.raises(RunError, match="no events left"):
        latents_of(iter(()))
    with pytest.raises(RunError, match="end with LatentsDone, not Finished; use latents_of"):
        finish(toy.denoise(toy.prepare("a house", changed(steps=1))))


def test_what_a_person_prints_is_one_short_line(toy):
    job, seen = toy.prepare("a house", changed(steps=1)), []
    seen += [toy, toy.model, job, *toy.run(job, sink := MemorySink()), sink]
    assert repr(toy) == f"Pipeline({toy.model.folder.path.name}, sparse, fp32, cpu, profile cpu)"
    assert repr(job) == "Job(32×16, 9 frames, 1 step, seed 0)"
    assert repr(Pipeline.load()) == "Pipeline(holo-tiny, sparse, fp32, cpu, profile cpu)"
    assert [each for each in seen if len(repr(each)) > 250 or "\n" in repr(each)] == []


@pytest.mark.parametrize("threads", [2, 3])
def test_the_callers_threads_are_as_they_were_and_a_small_model_uses_one(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        used = {torch.get_num_threads() for _ in Pipeline.load().generate("a house", MemorySink(), SMALL)}
        left = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert left == threads
    assert used == {threads, 1}  # the first event comes before anything is computed


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda toy: toy.generate("a house", 5), "out: give the path of an .mp4, or what takes frames"),
        (lambda toy: toy.prepare("a house", {"seed": 7}), r"options: give Options, such as Options\(seed=7\)"),
        (lambda _: Pipeline.load(ModelOptions()), "model: give a path, not an object of type ModelOptions"),
        (lambda _: Pipeline.load(None, {"dtype": "bf16"}), "options: give ModelOptions, such as"),
    ],
)
def test_what_is_given_in_another_place_is_one_line(toy, call, said):
    with pytest.raises(SettingsError, match=said):
        call(toy)


def test_an_older_video_survives_a_cancelled_run(toy, tmp_path):
    generate(toy, tmp_path / "a.mp4")
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    run = toy.generate(BOARD, tmp_path / "a.mp4", changed(seed=9))
    assert any(isinstance(event, FrameDone) for event in run)
    run.close()
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_mistakes_are_told_before_the_first_event(toy, tmp_path):
    """A caller who has started a run knows that it is possible."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="is a folder, but the contact sheet would be written there"):
        toy.generate(BOARD, tmp_path / "a.mp4", SMALL)
    with pytest.raises(SettingsError, match="steps 0"):
        toy.generate(BOARD, tmp_path / "b.mp4", changed(steps=0))


def test_an_attention_the_experts_are_not_for_is_refused(toy, cache, published_model):
    with pytest.raises(
        SettingsError, match=r"attention .full.: the experts loaded are for sparse; .*Pipeline\.load"
    ):
        toy.prepare(BOARD, changed(attention="full"))
    assert toy.prepare(BOARD, changed(attention="sparse")).settings.attention == "sparse"
    full = Pipeline.load(toy_model(cache), ModelOptions(attention="full"))  # the toy's experts serve either
    assert full.prepare(BOARD, SMALL).settings.attention == "full"
    with pytest.raises(CheckpointError, match=r"has no full_high_noise\.safetensors"):
        Pipeline.load(published_model, ModelOptions(attention="full"))


# --- the same again, and not the same --------------------------------------------------------------


def test_a_seed_decides_the_frames(toy, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate(toy, tmp_path / f"{name}.mp4", options=changed(seed=seed))
    a, b, c = (frames(tmp_path / f"{name}.mp4") for name in "abc")
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.parametrize(
    "said",
    [{"cuts": (9,)}, {"cfg": 4.0}, {"negative": "red"}, {"steps": 4}, {"attention": "full"}, {"board": "other"}],
    ids=str,
)
def test_everything_said_bears_on_the_frames(toy, cache, tmp_path, said):
    """Five latent frames: enough for cuts at 5 and 9 to differ."""
    options, board, pipeline = changed(frames=17, cuts=(5,)), BOARD, toy
    generate(pipeline, tmp_path / "a.mp4", board, options)
    if "board" in said:
        board = Storyboard(BOARD.global_caption, (BOARD.shots[0], Shot("the sky")))
    elif "attention" in said:
        pipeline = Pipeline.load(toy_model(cache), ModelOptions(attention="full"))
    else:
        options = changed(**{"frames": 17, "cuts": (5,), **said})
    generate(pipeline, tmp_path / "b.mp4", board, options)
    assert not same(frames(tmp_path / "a.mp4"), frames(tmp_path / "b.mp4"))


def test_a_second_run_with_the_same_prompt_never_loads_the_encoder(toy, cache, tmp_path, monkeypatch):
    generate(toy, tmp_path / "a.mp4")

    def explode(*_, **__):
        raise AssertionError("the text encoder was loaded")

    monkeypatch.setattr("holo_lite.render.text_phase.TextEncoder.open", explode)
    generate(Pipeline.load(toy_model(cache)), tmp_path / "b.mp4")
    assert same(frames(tmp_path / "a.mp4"), frames(tmp_path / "b.mp4"))
    with pytest.raises(AssertionError, match="was loaded"):
        generate(toy, tmp_path / "c.mp4", options=changed(negative="a prompt nobody encoded"))
    with pytest.raises(AssertionError, match="was loaded"):
        generate(Pipeline.load(toy_model(cache), ModelOptions(dtype="bf16")), tmp_path / "c.mp4")


@pytest.mark.parametrize(("cfg", "branches"), [(1.0, 1), (1.5, 2)])
def test_scale_1_runs_one_branch(toy, tmp_path, monkeypatch, cfg, branches):
    seen = []
    build = StreamedExperts._build

    def watched(*args):
        model = build(*args)
        model.register_forward_pre_hook(lambda _, given: seen.append(len(given[2])))
        return model

    monkeypatch.setattr(StreamedExperts, "_build", watched)
    generate(toy, tmp_path / "a.mp4", options=changed(cfg=cfg))
    assert seen == [branches] * 3


def test_one_network_stands_in_memory_at_a_time(toy, tmp_path, monkeypatch):
    """At 14 billion parameters two of them are one too many."""
    import holo_lite.render.decode_phase

    loaded = []

    def watch(owner, name):
        load = getattr(owner, name)

        def watched(*args, **keywords):
            assert [ref() for _, ref in loaded if ref() is not None] == []
            network = load(*args, **keywords)
            loaded.append((name, weakref.ref(network)))
            return network

        monkeypatch.setattr(owner, name, watched)

    watch(TextEncoder, "open")
    watch(StreamedExperts, "_build")
    watch(holo_lite.render.decode_phase, "load_vae")
    generate(toy, tmp_path / "a.mp4", options=changed(negative="never said before", steps=8))
    assert [name for name, _ in loaded] == ["open", "_build", "_build", "load_vae"]


class Unpinning(CpuLane):
    """A CPU that pins nothing."""

    def host_buffer(self, nbytes, *, pinned):
        if pinned:
            raise PinError
        return super().host_buffer(nbytes, pinned=pinned)


def test_what_a_run_gave_up_stands_in_the_video_with_the_place_and_is_remembered(toy, tmp_path, monkeypatch):
    """Pinned memory while the prompt is read, and twice something at the second step; frames stay as they were."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    generate(toy, tmp_path / "a.mp4")
    calls, euler = iter(range(10)), sampler.euler

    def full_once(*given):
        if next(calls) in {1, 2}:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return euler(*given)

    monkeypatch.setattr(sampler, "euler", full_once)
    monkeypatch.setattr("holo_lite.streaming.blocks.lane_for", lambda _: Unpinning())
    shutil.rmtree(tmp_path / "cache" / "prompts")
    events = generate(toy, tmp_path / "b.mp4")
    changes = [event.change for event in events if isinstance(event, SteppedDown)]
    assert changes == [
        "no pinned memory",
        "a shot's inputs are not held any more",
        "chunks of 4096 and 2048 tokens",
    ]
    phases = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert phases == ["text", "text", "denoise", "load", "decode"]
    plan = RunSettings.from_json(read_metadata(tmp_path / "b.mp4")).plan
    places = [
        {"at": at, "change": change} for at, change in zip(("text", "step 2", "step 2"), changes, strict=True)
    ]
    assert plan["rungs"] == places
    assert events[-1].settings.plan["chunks"] == [4096, 2048]
    assert same(frames(tmp_path / "a.mp4"), frames(tmp_path / "b.mp4"))
    again = toy.prepare(BOARD, SMALL)
    assert (again.plan.pinned_ring, again.plan.chunks.attention, again.plan.rungs) == (False, 4096, ())


# --- what the video says of itself -----------------------------------------------------------------


def test_settings_survive_in_the_video(toy, tmp_path):
    done = generate(toy, tmp_path / "a.mp4")[-1]
    assert RunSettings.from_json(read_metadata(tmp_path / "a.mp4")) == done.settings
    assert done.settings.storyboard == BOARD
    assert done.settings.model == toy.model.fingerprint


def test_the_fingerprint_tells_models_apart(toy_copy):
    before = Pipeline.load(toy_copy).model.fingerprint
    assert f"tiny-{Pipeline.load(tiny_model()).model.fingerprint}" == Pipeline.load().model.fingerprint
    for name in ("dit_low_noise", "vae/diffusion_pytorch_model", "text_encoder/model"):
        path = toy_copy / f"{name}.safetensors"
        original = path.read_bytes()
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        assert Pipeline.load(toy_copy).model.fingerprint != before
        path.write_bytes(original)
    assert Pipeline.load(toy_copy).model.fingerprint == before


SECONDS = """
title = "It's \\"quoted\\""
global = "A house by the sea, it's [character1]'s."
fps = 29.97002997002997
cfg = 2.3456789
negative = "white 'wall' \\"$HOME\\" 红"
[[shot]]
caption = "wide shot"
seconds = 0.3
[[shot]]
caption = "close shot"
seconds = 0.31
"""
STORYBOARDS = {
    "seconds.toml": (SECONDS, []),
    "cuts.toml": ("global='G'\nframes=21\ncuts=[6]\nseed=3\n[[shot]]\ncaption='a'\n[[shot]]\ncaption='b'\n", []),
    "overruled.toml": (
        "global='G'\nframes=21\ncuts=[6]\nseed=3\nsteps=9\nnegative='a'\n[[shot]]\ncaption='a'\n[[shot]]\ncaption='b'\n",
        ["--frames", "17", "--cuts", "9", "--seed", "4", "--negative", PUBLISHED_NEGATIVE, "--attention", "full"],
    ),
    "raw.txt": ("[global caption] G [per shot caption] a [shot cut] b [shot cut] c", ["--dtype", "bf16"]),
    "plain.txt": ("a road by the sea", ["--cfg", "1"]),
}


@pytest.mark.parametrize("own", [False, True], ids=["built in", "own model"])
@pytest.mark.parametrize("name", STORYBOARDS)
def test_what_inspect_prints_makes_the_same_video_bit_for_bit(run, toy_copy, tmp_path, name, own):
    text, words = STORYBOARDS[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    if own:  # a model whose defaults are other than the published ones
        (toy_copy / "defaults.json").write_text(
            '{"frames": 13, "fps": 12, "steps": 3, "cfg": 1.75, "negative": "red"}'
        )
        words = [*words, "--model", toy_copy]
    else:  # the built-in experts are for sparse attention
        words = ["sparse" if word == "full" else word for word in words]
    size = ("--height", 32, "--width", 16, "--out", "first.mp4")
    assert run("generate", name, *size, *words, *(() if "steps" in text else ("--steps", 2))).code == 0
    printed = run("inspect", "first.mp4").out
    (again,) = [line.lstrip("# ") for line in printed.splitlines() if line.startswith("#   holo-lite generate")]
    (tmp_path / "storyboard.toml").write_text(printed, encoding="utf-8")
    _, *command = shlex.split(again.replace("--model FOLDER", f"--model {toy_copy}"))
    assert ("--model" in command) == own
    assert run(*command).code == 0
    assert same(frames(tmp_path / "first.mp4"), frames(tmp_path / "storyboard.mp4"))
    first, second = (RunSettings.from_json(read_metadata(tmp_path / f"{n}.mp4")) for n in ("first", "storyboard"))
    assert {**vars(first), "storyboard": 0} == {**vars(second), "storyboard": 0}
    assert first.storyboard.prompt == second.storyboard.prompt


def test_inspect_says_which_model_must_be_filled_in(run, toy_copy):
    model = ("--model", toy_copy)
    run("generate", "a road", "--frames", 5, "--height", 16, "--width", 16, "--steps", 1, *model)
    lines = run("inspect", "video.mp4").out.splitlines()
    assert lines[0] == "# video.mp4: 16×16, 5 frames, 0.3 s at 15 fps"
    assert (
        lines[1].endswith(f"float32 on cpu, model {Pipeline.load(toy_copy).model.fingerprint}")
        or "fp32 on cpu" in lines[1]
    )
    assert lines[2] == "# save the lines below as storyboard.toml, then type, with this model's folder for FOLDER:"


def test_the_contact_sheet_shows_every_shot(toy, tmp_path):
    done = generate(toy, tmp_path / "a.mp4")[-1]
    with Image.open(done.sheet) as two:
        height_of_two = two.size[1]
    generate(toy, tmp_path / "b.mp4", Storyboard("G", BOARD.shots[:1]))
    with Image.open(tmp_path / "b.png") as one:
        assert one.format == "PNG"
        assert height_of_two > one.size[1] + 100


# --- files as people have them ---------------------------------------------------------------------


def test_the_published_prompt_runs_on_the_original_files(run, published_model, tmp_path):
    """The main job: HoloCine's prompt format, umt5's own token ids, and files named and stored as released."""
    outcome = run(
        *("generate", PROMPTS[0]["prompt"], "--model", published_model, "--out", "film.mp4"),
        *("--frames", 25, "--cuts", "13,21", "--height", 32, "--width", 48, "--steps", 4, "--seed", 1234),
    )
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.splitlines()[0] == "3 shots, 48×32, 25 frames, 4 steps, seed 1234"
    info = probe(tmp_path / "film.mp4")
    assert (info.frames, info.width, info.height, info.fps) == (25, 48, 32, 15)
    shown = frames(tmp_path / "film.mp4")
    assert len(shown) == 25
    assert all(frame.shape == (32, 48, 3) and frame.std() > 1 for frame in shown)
    settings = RunSettings.from_json(read_metadata(tmp_path / "film.mp4"))
    assert (settings.cuts, settings.steps, settings.cfg, settings.fps) == ((13, 21), 4, 5.0, 15.0)
    assert (settings.dtype, settings.attention, settings.negative) == ("bf16", "sparse", PUBLISHED_NEGATIVE)
    assert (tmp_path / "film.png").is_file()


def test_prompts_reach_the_model_as_the_references_tokens(published_model):
    pipeline = Pipeline.load(published_model)
    assert check_expert(pipeline.model.folder.high_noise) == PUBLISHED
    for row in (row for row in PROMPTS if row["prompt"].startswith("[global caption]")):
        prompt = pipeline.prepare(Storyboard(None, (), raw=row["prompt"])).prompt
        assert prompt.ids == tuple(row["token_ids"])
        if row["global"] is not None:
            assert prompt.windows.global_range == tuple(row["global"])
            assert [list(span) for span in prompt.windows.shot_ranges] == row["shots"]


def shapes(name):
    return json.loads((TESTS / "checkpoints" / f"{name}.json").read_text(encoding="utf-8"))


REAL = {
    "dit_14b": (check_expert, HOLOCINE_14B, 28.5e9),
    "umt5_xxl_encoder": (check_text_encoder, UMT5_XXL, 11.3e9),
    "wan21_vae": (lambda path: check_vae(path).base_dim, 96, 0.25e9),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_files_keys_and_shapes_are_accepted_and_a_byte_less_is_not(tmp_path, name):
    check, expected, size = REAL[name]
    path = write_holes(tmp_path / f"{name}.safetensors", shapes(name))
    assert path.stat().st_size == pytest.approx(size, rel=0.02)
    assert check(path) == expected
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match=r"is cut short: tensor \S+ ends at byte"):
        check(path)


def test_the_released_expert_has_these_sizes():
    assert (HOLOCINE_14B.dim, HOLOCINE_14B.num_heads, HOLOCINE_14B.num_layers) == (5120, 40, 40)
    assert HOLOCINE_14B.head_dim == 128


def test_a_prefix_of_other_tools_is_dropped(toy_copy, toy, tmp_path):
    for noise in ("high", "low"):
        path = toy_copy / f"dit_{noise}_noise.safetensors"
        weights = {f"model.diffusion_model.{name}": weight for name, weight in load_file(path).items()}
        save_file({name: weight.clone() for name, weight in weights.items()}, path)
    generate(Pipeline.load(toy_copy), tmp_path / "a.mp4")
    generate(toy, tmp_path / "b.mp4")
    assert same(frames(tmp_path / "a.mp4"), frames(tmp_path / "b.mp4"))
