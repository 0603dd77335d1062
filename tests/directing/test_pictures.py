"""Pictures in a storyboard: where they go in the clip, how they are read, and what is refused before any weight."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from toy_files import toy_model

from holo_lite import Options, Pipeline, Reference, Retake, Shot, Storyboard, dump_toml, finish, parse_toml
from holo_lite.directing.pictures import MOST_PIXELS, read_picture
from holo_lite.errors import HoloError, StoryboardError
from holo_lite.events import PhaseAdvanced, PhaseStarted
from holo_lite.film.fitting import covering, cut_off
from holo_lite.film.video import read_metadata
from holo_lite.runs.kept_latents import latents_path
from holo_lite.settings import RunSettings
from holo_lite.story.named_shots import NamedShot

SMALL = Options(frames=13, height=16, width=32, steps=2)
SHOTS = (Shot("a house"), Shot("a door"))


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "keeper.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 32, 3), dtype=np.uint8)).save(path)
    return path


def board(**given):
    shots = (SHOTS[0], Shot("a door", **given)) if given else SHOTS
    return Storyboard("A house by the sea.", shots)


def settings_of(video):
    return RunSettings.from_json(read_metadata(video))


def test_a_picture_begins_its_shot_and_is_remembered(toy, picture, tmp_path):
    events = list(toy.generate(board(image=str(picture)), tmp_path / "a.mp4", SMALL))
    found = settings_of(tmp_path / "a.mp4")
    assert [(shot.shot, shot.frames, shot.source) for shot in found.frozen.shots] == [
        (1, 2, "keeper.png"),
        (3, 1, "keeper.png"),
    ]
    assert found.frozen.memory == 1
    assert found.storyboard.shots[1].image == "keeper.png"  # where it lies is nobody else's business
    assert found.new_shots == dict(enumerate(found.shown.shot_frames, start=1))
    kinds = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert kinds[:2] == ["load", "encode"]
    assert [event.done for event in events if isinstance(event, PhaseAdvanced)] == [1, 5, 6, 10]


def test_a_frozen_frame_is_the_picture_as_the_encoder_gives_it(toy, picture, tmp_path):
    from holo_lite.film.encode import encode_frames
    from holo_lite.film.vae_encoder import load_vae_encoder

    finish(toy.generate(board(image=str(picture)), tmp_path / "a.mp4", SMALL))
    vae = toy.model.folder.vae
    encoder = load_vae_encoder(vae, dtype=toy.model.decode_dtype, device=torch.device("cpu"))
    still = list(encode_frames(encoder, [np.asarray(Image.open(picture))] * 5))
    latents = load_file(latents_path(tmp_path / "a.mp4"))["latents"]
    first_of_shot = settings_of(tmp_path / "a.mp4").layout.frame_span(2).start
    assert torch.equal(latents[:, :2], torch.stack(still, dim=1))
    assert torch.equal(latents[:, first_of_shot], still[1])


def test_references_go_before_pictures_of_shots_and_can_be_shots_of_videos(toy, picture, tmp_path):
    finish(toy.generate(board(), tmp_path / "old.mp4", SMALL))
    old = load_file(latents_path(tmp_path / "old.mp4"))["latents"]
    references = (Reference("a door", video=str(tmp_path / "old.mp4#2")), Reference("a face", image=str(picture)))
    asked = Storyboard("A house.", (SHOTS[0], Shot("x", image=str(picture))), references=references)
    finish(toy.generate(asked, tmp_path / "new.mp4", SMALL))
    now = load_file(latents_path(tmp_path / "new.mp4"))["latents"]
    second = settings_of(tmp_path / "old.mp4").layout.frame_span(1)[:2]
    assert torch.equal(now[:, : len(second)], old[:, list(second)])
    assert [shot.source for shot in settings_of(tmp_path / "new.mp4").frozen.shots] == [
        *("old.mp4", "keeper.png", "keeper.png", "keeper.png")
    ]
    assert settings_of(tmp_path / "new.mp4").storyboard.prompt.count("[shot cut]") == 4


def test_a_video_without_its_latents_is_encoded_again(toy, tmp_path):
    finish(toy.generate(board(), tmp_path / "old.mp4", SMALL))
    kept = load_file(latents_path(tmp_path / "old.mp4"))["latents"]
    latents_path(tmp_path / "old.mp4").unlink()
    told = toy.prepare(Retake(tmp_path / "old.mp4", {1: "another house"})).notes
    assert "old.latents.safetensors is not there: old.mp4 itself is encoded again, which loses a little" in told
    finish(toy.retake(tmp_path / "old.mp4", {1: "another house"}, tmp_path / "new.mp4"))
    now = load_file(latents_path(tmp_path / "new.mp4"))["latents"]
    assert now.shape == kept.shape
    assert torch.isfinite(now).all()


def test_a_storyboard_with_pictures_is_written_and_read_back():
    asked = Storyboard(
        "G", (Shot("a", image="p/a.png"), Shot("b", video="v.mp4#m1")), references=(Reference("c", image="c.png"),)
    )
    assert parse_toml(dump_toml(asked), "x.toml") == asked


@pytest.mark.parametrize(
    ("name", "place"), [("a.mp4", 2), ("a.mp4#3", 4), ("b#c.mp4#1", 2), ("a.mp4#m2", 1), ("A.MP4#1", 2)]
)
def test_a_shot_of_a_video_is_found_by_its_name(name, place):
    assert NamedShot.of(name).place(2, 3) == place


@pytest.mark.parametrize("name", ["a.mp4#0", "a.mp4#4", "a.mp4#m3", "a.mp4#m0", "a.mp4#x", "a.mov#1", "", "#1"])
def test_a_shot_that_is_not_there_is_told(name):
    with pytest.raises(StoryboardError) as caught:
        NamedShot.of(name).place(2, 3)
    assert "\n" not in str(caught.value)


def png(width, height):
    """A small file that says it is a large picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a picture that can be read"),
        (b"hello", "is not a picture that can be read"),
        (png(30_000, 30_000), "is too large a picture"),
        (png(9000, 9000), "is too large a picture"),
        (png(100_000, 10), "is too large a picture"),
    ],
)
def test_a_picture_that_is_none_or_huge_is_refused_before_any_weight(toy, tmp_path, content, said):
    (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(StoryboardError, match=said):
        toy.prepare(board(image=str(tmp_path / "p.png")), SMALL)
    assert MOST_PIXELS < 9000 * 9000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image": "none.png"}, "none.png: cannot be read (No such file or directory)"),
        ({"image": "//server/share/p.png"}, "is on a network"),
        ({"image": "\\\\server\\p.png"}, "is on a network"),
        ({"image": "https://example.com/p.png"}, "is on a network"),
        ({"video": "old.mov"}, "name a video and its shot"),
        ({"video": "none.mp4#1"}, "none.mp4: cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(toy, given, said):
    with pytest.raises(StoryboardError) as caught:
        toy.prepare(board(**given), SMALL)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Shot("a", image="a.png", video="a.mp4"),
        lambda: Shot("a", image=" "),
        lambda: Reference("a"),
        lambda: Reference("a", image="a.png", video="b.mp4"),
        lambda: (
            Reference(" ", image="a.png") and board() and Storyboard("G", SHOTS, references=(Reference(" ", "a"),))
        ),
        lambda: Storyboard("G", SHOTS, references=("a.png",)),
        lambda: Storyboard("G", (Shot("a", image="a.png"),)).with_images({1: "b.png"}),
        lambda: Storyboard("G", SHOTS).with_images({3: "b.png"}),
        lambda: parse_toml('global = "G"\n[[shot]]\ncaption = "a"\n[[reference]]\nimage = "a.png"', "x"),
        lambda: parse_toml('global = "G"\nreference = 3\n[[shot]]\ncaption = "a"', "x"),
        lambda: parse_toml('global = "G"\n[[shot]]\ncaption = "a"\nimage = 3', "x"),
    ],
)
def test_what_cannot_be_meant_is_told(make):
    with pytest.raises(HoloError) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_transparent_turned_grey_and_deep_pictures_are_read_as_they_look(tmp_path):
    def saved(picture, name, **how):
        picture.save(tmp_path / name, **how)
        return np.asarray(read_picture(tmp_path / name))

    clear = Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    assert (saved(clear, "clear.png") == 255).all()
    grey = saved(Image.new("L", (4, 2), 77), "grey.png")
    assert grey.shape == (2, 4, 3)
    assert (grey == 77).all()
    deep = saved(Image.fromarray(np.full((2, 4), 0x80FF, dtype=np.uint16)), "deep.png")
    assert (deep == 0x80).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(Image.new("RGB", (4, 2), (1, 2, 3)), "turned.png", exif=exif)
    assert turned.shape == (4, 2, 3)


def test_a_damaged_picture_is_told_before_any_weight_is_read(toy, tmp_path):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:3000])
    with pytest.raises(StoryboardError, match="is a damaged picture"):
        toy.prepare(board(image=str(tmp_path / "cut.png")), SMALL)


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64), (31, 17), (1, 1), (33, 16), (200, 16)])
def test_a_picture_covers_the_frame_and_loses_as_much_on_both_sides(width, height):
    ramp = np.zeros((height, width, 3), dtype=np.uint8)
    ramp[:, :, 0] = np.linspace(0, 255, width)[None]
    ramp[:, :, 1] = np.linspace(0, 255, height)[:, None]
    found = covering(Image.fromarray(ramp), 16, 32)
    assert found.shape == (16, 32, 3)
    for channel in (found[..., 0], found[..., 1]):
        assert abs(float(channel[0, 0]) + float(channel[-1, -1]) - 255) < 12 or width == 1 or height == 1


def test_what_is_cut_off_is_said():
    assert cut_off((832, 480), 480, 832) is None
    assert cut_off((1000, 1000), 480, 832) == (
        "1000×1000 is not the shape of 832×480: 42% of it is cut off above and below"
    )
    assert cut_off((2000, 500), 500, 1000) == (
        "2000×500 is not the shape of 1000×500: 50% of it is cut off left and right"
    )
