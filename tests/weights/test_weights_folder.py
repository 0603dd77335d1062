"""Which file in a folder is what."""

import pytest
from tensor_files import refusal

from holo_lite.config import Defaults
from holo_lite.errors import CheckpointError
from holo_lite.weights import folder as model_folder
from holo_lite.weights.folder import open_folder

EXPERTS = ("sparse_high_noise.safetensors", "sparse_low_noise.safetensors")
REST = ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google/umt5-xxl/tokenizer.json")


@pytest.fixture
def lay(tmp_path):
    """Make a model folder of empty files."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


def test_files_are_found_wherever_they_lie(lay):
    home = lay("HoloCine/sparse/" + EXPERTS[0], "HoloCine/other/" + EXPERTS[1], *(f"wan/{name}" for name in REST))
    found = open_folder(home)
    assert found.attention == "sparse"
    names = ("HoloCine/sparse/" + EXPERTS[0], "HoloCine/other/" + EXPERTS[1], *(f"wan/{name}" for name in REST))
    assert found.weight_paths == tuple(home / name for name in names)
    assert found.defaults == Defaults()


@pytest.mark.parametrize("suffix", [".safetensors", ".safetensors.index.json", ".pth"])
def test_experts_of_any_kind_of_file(lay, suffix):
    home = lay(f"sparse_high_noise{suffix}", f"sparse_low_noise{suffix}", *REST)
    assert open_folder(home).high_noise == home / f"sparse_high_noise{suffix}"


def test_diffusers_folders_for_text_encoder_and_vae(lay):
    home = lay(
        *EXPERTS, "w/text_encoder/config.json", "w/text_encoder/model.safetensors", "w/vae/config.json", REST[2]
    )
    found = open_folder(home)
    assert (found.text_encoder, found.vae) == (home / "w/text_encoder", home / "w/vae")


def test_sparse_goes_before_full_unless_full_is_asked_for_or_alone(lay):
    full = ("full/full_high_noise.safetensors", "full/full_low_noise.safetensors")
    home = lay(*full, *REST)
    assert open_folder(home).attention == "full"
    lay(*EXPERTS)
    assert open_folder(home).attention == "sparse"
    assert open_folder(home).high_noise.name == EXPERTS[0]
    assert open_folder(home, "full").low_noise == home / full[1]
    assert open_folder(home, "full").attention == "full"


@pytest.mark.parametrize("hidden", [".old/", ".cache/huggingface/", "a/.trash/b/", "._"])
def test_hidden_files_and_folders_are_not_the_model(lay, hidden):
    home = lay(*EXPERTS, *REST, *(hidden + name for name in EXPERTS))
    assert open_folder(home).high_noise == home / EXPERTS[0]
    home = lay(*(hidden + name for name in EXPERTS))


def test_a_model_folder_that_is_itself_hidden_opens(lay):
    home = lay(*(f".models/{name}" for name in (*EXPERTS, *REST)))
    assert open_folder(home / ".models").low_noise.name == EXPERTS[1]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (EXPERTS[0], "has no sparse_high_noise.safetensors; download it from hlwang06/HoloCine"),
        (EXPERTS[1], "has no sparse_low_noise.safetensors; download it from hlwang06/HoloCine"),
        (REST[0], "has no text encoder, models_t5_umt5-xxl-enc-bf16.pth or text_encoder/"),
        (REST[1], "has no VAE, Wan2.1_VAE.pth or vae/; download it from Wan-AI/Wan2.2-T2V-A14B"),
        (REST[2], "has no tokenizer.json"),
    ],
)
def test_the_file_that_is_missing_is_named_with_where_to_get_it(lay, missing, said):
    home = lay(*(name for name in (*EXPERTS, *REST) if name != missing))
    assert said in refusal(home, open_folder)


def test_an_unfinished_download_is_not_the_file(lay):
    home = lay(EXPERTS[0] + ".incomplete", EXPERTS[1], *REST)
    assert "has no sparse_high_noise" in refusal(home, open_folder)


def test_full_asked_for_and_not_there(lay):
    home = lay(*EXPERTS, *REST)
    assert "has no full_high_noise" in refusal(home, lambda path: open_folder(path, "full"))


def test_a_sparse_and_a_full_expert_are_not_taken_for_a_pair(lay):
    home = lay(EXPERTS[0], "full_low_noise.safetensors", *REST)
    assert "has no sparse_low_noise" in refusal(home, open_folder)
    assert "has no full_high_noise" in refusal(home, lambda path: open_folder(path, "full"))


def test_no_such_folder(tmp_path):
    assert "no such folder" in refusal(tmp_path / "x", open_folder)
    (tmp_path / "f").touch()
    assert "no such folder" in refusal(tmp_path / "f", open_folder)


def test_defaults_of_a_model(lay):
    home = lay(*EXPERTS, *REST)
    (home / "defaults.json").write_text('{"frames": 81, "fps": 16, "negative": "x"}')
    assert open_folder(home).defaults == Defaults(frames=81, fps=16, negative="x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        pytest.param("[" * 100_000, "is not JSON", id="nested beyond all depth"),
        ("[]", "is not a JSON table"),
        ('"frames"', "is not a JSON table"),
        ("null", "is not a JSON table"),
        ('{"frame": 81}', "unknown key 'frame'; did you mean 'frames'?"),
        ('{"frames": "many"}', "frames is 'many'; give a value like 241"),
        ('{"frames": 81.5}', "frames is 81.5"),
        ('{"frames": null}', "frames is None"),
        ('{"steps": true}', "steps is True"),
        ('{"cfg": "5"}', "cfg is '5'; give a value like 5.0"),
        ('{"negative": 5}', "negative is 5"),
    ],
)
def test_defaults_that_are_wrong_are_named(lay, text, said):
    home = lay(*EXPERTS, *REST)
    (home / "defaults.json").write_text(text)
    with pytest.raises(CheckpointError) as raised:
        open_folder(home)
    assert str(raised.value).startswith(f"{home / 'defaults.json'}: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_name_for_a_set_of_weights_knows_their_order():
    names = [model_folder.fingerprint(parts) for parts in (["a", "b"], ["b", "a"], ["a"], ["ab"])]
    assert len(set(names)) == 4
    assert all(len(name) == 16 for name in names)
