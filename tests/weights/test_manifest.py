"""What a converted model says of itself is read back as it was written, and believed only where it can be true."""

import dataclasses
import json

import pytest
from conversions import contents, convert, copied, write_source
from hypothesis import example, given, settings, strategies as st
from tensor_files import refusal

from holo_lite.config import Defaults
from holo_lite.errors import CheckpointError
from holo_lite.inspection.describe import inspect
from holo_lite.model.load import check_expert
from holo_lite.render.pipeline import Pipeline
from holo_lite.text.encoder_shapes import check_text_encoder
from holo_lite.weights.converted import ConvertedFile
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import open_folder
from holo_lite.weights.manifest import (
    FILE_NAME,
    Component,
    Manifest,
    Shard,
    SourceFile,
    StoredTensor,
    is_converted,
    read_manifest,
)

FULL = Manifest(
    scheme="nf4",
    attention="full",
    components={
        "high_noise": Component(
            {"dim": 8, "eps": 1e-6},
            (
                Shard("high_noise/rest.safetensors", 8192, "ab"),
                Shard("high_noise/block-00.safetensors", 1, "cd", 0),
            ),
            {"w": StoredTensor("nf4", (64, 64), "bfloat16"), "ü": StoredTensor("plain", (), "float16")},
        )
    },
    defaults=Defaults(frames=81, fps=16.0, negative="no"),
    files={"tokenizer.json": "ef", "vae/config.json": "01"},
    sources=(SourceFile("sparse_high_noise.safetensors", 28577099776, "ff"),),
    loras={"high_noise": ("fast.safetensors:0.8",)},
    recipe={"scheme": "nf4", "components": {}, "rules": []},
    tools={"torch": "2.13"},
    licence="CC",
    sections={"preview": {"file": "x"}},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    source = write_source(tmp_path_factory.mktemp("manifest") / "source")
    convert(source, source.parent / "out", "int8")
    return source.parent / "out"


@pytest.fixture
def spoilt(model, tmp_path):
    """A copy of a converted model whose manifest is changed by a function."""

    def spoil(change):
        copy = copied(model, tmp_path / "model")
        found = json.loads((copy / FILE_NAME).read_text())
        found = change(found) or found
        (copy / FILE_NAME).write_text(json.dumps(found))
        return copy

    return spoil


def write(folder, text):
    (folder / FILE_NAME).write_text(text)
    return folder


def refused(folder, call=read_manifest):
    with pytest.raises(CheckpointError) as caught:
        call(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / FILE_NAME}: ")
    assert message.isprintable()
    return message.removeprefix(f"{folder / FILE_NAME}: ")


def test_what_was_written_is_read_back(tmp_path):
    write(tmp_path, FULL.to_json())
    found = read_manifest(tmp_path)
    assert found == FULL
    assert found.to_json() == FULL.to_json()
    assert found.components["high_noise"].nbytes == 8193


def test_the_same_manifest_is_the_same_text_and_has_what_the_document_says():
    again = dataclasses.replace(FULL, components=dict(FULL.components))
    assert again.to_json() == FULL.to_json()
    keys = "format runs_from scheme recipe attention components defaults files sources loras tools licence sections"
    assert set(json.loads(FULL.to_json())) == set(keys.split())


def test_what_is_not_known_here_is_kept_and_shown(tmp_path):
    found = json.loads(FULL.to_json()) | {"novelty": [1]}
    found["components"]["high_noise"]["shards"][1]["extra"] = 1
    found["defaults"]["frame"] = 81
    manifest = read_manifest(write(tmp_path, json.dumps(found)))
    assert dataclasses.replace(manifest, origin=FULL.origin) == FULL
    assert set(manifest.origin.lines()) == {
        "$.novelty = [1]",
        "$.components.high_noise.shards[1].extra = 1",
        "$.defaults.frame = 81",
    }
    assert json.loads(manifest.to_json()) == found


def test_a_later_format_says_what_to_do_and_may_be_looked_at(tmp_path):
    found = json.loads(FULL.to_json()) | {"format": 3, "runs_from": 3}
    message = refused(write(tmp_path, json.dumps(found)))
    said = "was written by a later holo-lite (record version 3); update holo-lite to go on with it"
    assert message == f"{said}; it can still be inspected"
    assert message == refused(tmp_path, open_folder)
    assert read_manifest(tmp_path, to_run=False).scheme == "nf4"
    shown = list(inspect(tmp_path))
    assert "this one is too old to go on with it" in shown[-1]
    write(tmp_path, json.dumps(found | {"components": "in another form"}))
    assert ' "components": "in another form",' in list(inspect(tmp_path))


@pytest.mark.parametrize("version", [0, "1", None, [1], "9" * 1000])
def test_what_is_no_format_is_damage(tmp_path, version):
    write(tmp_path, json.dumps(json.loads(FULL.to_json()) | {"format": version}))
    message = refused(tmp_path)
    assert f"is damaged ({version!a:.40} is no version" in message
    assert message == refused(tmp_path, open_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{}", "[" * 100_000, '{"format": 1'])
def test_what_is_no_manifest_is_told(tmp_path, text):
    message = refused(write(tmp_path, text))
    assert message == "is not the manifest of a converted model; convert the model again"


def test_no_manifest_and_one_that_is_no_text(tmp_path):
    assert "is not the manifest" in refused(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe{}")
    assert "is not the manifest" in refused(tmp_path)


@pytest.mark.parametrize("key", ["scheme", "attention", "components", "defaults", "sources", "loras", "files"])
def test_a_key_that_is_gone_is_named(tmp_path, key):
    found = json.loads(FULL.to_json())
    del found[key]
    message = refused(write(tmp_path, json.dumps(found)))
    assert f"'{key}'" in message
    assert message.endswith("convert the model again")


def put(*keys):
    """Change one place of a manifest."""
    *way, last, value = keys

    def change(found):
        for key in way:
            found = found[key]
        found[last] = value

    return change


REST = ("components", "high_noise", "shards", 0)
TENSOR = ("components", "high_noise", "tensors", "w")


@pytest.mark.parametrize(
    "change",
    [
        put("attention", "dense"),
        put("attention", None),
        put("components", []),
        put("components", "high_noise", 7),
        put("components", "high_noise", "config", 7),
        put("components", "high_noise", "tensors", ["w"]),
        put(*REST, "nbytes", "8192"),
        put(*REST, "nbytes", True),
        put(*REST, "nbytes", 1.5),
        put(*REST, "sha256", None),
        put(*REST, "block", "0"),
        put(*TENSOR, "shape", "64"),
        put(*TENSOR, "shape", [64, -1]),
        put(*TENSOR, "shape", [64, 1.0]),
        put(*TENSOR, "shape", None),
        put(*TENSOR, "scheme", 4),
        put("defaults", "frames", "many"),
        put("files", "a", None),
        put("recipe", [1]),
        put("tools", {"torch": 2}),
        put("licence", None),
        put("sections", None),
        put("sources", 0, "nbytes", None),
        put("sources", 5),
        put("loras", ["x"]),
        put("files", [5]),
    ],
)
def test_a_value_of_another_kind_is_damage(tmp_path, change):
    found = json.loads(FULL.to_json())
    change(found)
    assert refused(write(tmp_path, json.dumps(found))).startswith("is damaged")


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "a/../../x",
        "/etc/passwd",
        "",
        ".",
        "..",
        "a//b",
        "./a",
        "C:\\x",
        "a\\..\\b",
        "a\nb",
        "c:x",
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    found = json.loads(FULL.to_json())
    put(*REST, "file", name)(found)
    assert "which is no file in this folder" in refused(write(tmp_path, json.dumps(found)))
    found = json.loads(FULL.to_json()) | {"files": {name: "00"}}
    assert "which is no file in this folder" in refused(write(tmp_path, json.dumps(found)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(found, way=()):
    yield way
    inside = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in inside:
        yield from places(value, (*way, key))


PLACES = [place for place in places(json.loads(FULL.to_json())) if place]


@settings(deadline=None, max_examples=300)
@example(("sources", 0), {"\x1f": None})
@given(st.sampled_from(PLACES), JSON)
def test_no_change_of_a_manifest_crashes_its_reader(tmp_path_factory, place, value):
    found = json.loads(FULL.to_json())
    put(*place, value)(found)
    folder = write(tmp_path_factory.mktemp("m"), json.dumps(found))
    try:
        message = f"{folder / FILE_NAME}: " if read_manifest(folder) else ""
    except CheckpointError as error:
        message = str(error)
    assert message.startswith(f"{folder / FILE_NAME}: ")
    assert message.isprintable()


# --- the files behind it ---------------------------------------------------------------------------


def test_components_are_found_and_opened_by_their_folder(model):
    assert is_converted(model / "high_noise")
    assert not is_converted(model)
    file = open_weights(model / "low_noise")
    assert isinstance(file, ConvertedFile)
    assert file.shapes["blocks.0.ffn.0.weight"] == (320, 256)
    assert file.entries["blocks.0.ffn.0.weight.codes"].shape == (320, 256)
    assert set(open_folder(model).weight_paths) == {
        model / name for name in ("high_noise", "low_noise", "text_encoder", "vae", "tokenizer.json")
    }
    assert len({open_weights(model / role).fingerprint for role in ("high_noise", "low_noise", "vae")}) == 3


def test_a_shard_that_is_missing_or_of_another_size_is_named(model, tmp_path):
    copy = copied(model, tmp_path / "model")
    shard = copy / "high_noise" / "block-01.safetensors"
    size = shard.stat().st_size
    with shard.open("ab") as file:
        file.truncate(size - 4096)
    said = "convert the model again into an empty folder"
    assert (
        refusal(shard, lambda _: open_weights(copy / "high_noise"))
        == f"{shard}: has {size - 4096} bytes, not {size}; {said}"
    )
    shard.unlink()
    assert refusal(shard, lambda _: open_weights(copy / "high_noise")) == f"{shard}: is missing; {said}"
    open_weights(copy / "low_noise")


@pytest.mark.parametrize("role", ["high_noise", "low_noise", "text_encoder", "vae"])
def test_a_model_without_one_of_its_networks_is_told(spoilt, role):
    copy = spoilt(lambda found: found["components"].pop(role) and None)
    assert f"was converted without its {role}" in refusal(copy, open_folder)


def test_a_model_whose_tokenizer_is_gone_is_told(model, tmp_path):
    copy = copied(model, tmp_path / "model")
    (copy / "tokenizer.json").unlink()
    assert "its tokenizer.json is missing" in refusal(copy, open_folder)


NAME = "blocks.0.ffn.0.weight"
EXPERT = ("components", "high_noise")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            put(*EXPERT, "tensors", NAME, "scheme", "int9"),
            "is stored under the unknown scheme 'int9'; update holo-lite",
        ),
        (put(*EXPERT, "tensors", NAME, "scheme", "nf4"), NAME),
        (put(*EXPERT, "tensors", NAME, "scheme", "plain"), NAME),
        (put(*EXPERT, "config", "ffn_dim", 321), NAME),
        (put(*EXPERT, "config", "width", 321), "describes no expert"),
    ],
)
def test_a_manifest_that_its_shards_contradict_is_told(spoilt, change, said):
    copy = spoilt(change)
    assert said in refusal(copy / "high_noise", check_expert)
    with pytest.raises(CheckpointError):
        Pipeline.load(copy)


@pytest.mark.parametrize(
    "name", ["blocks.0.ffn.9.weight", "blocks.0.ffn", "head.head.bias", "blocks.0.norm3.weight"]
)
def test_a_name_no_layer_has_is_not_a_packed_layer(spoilt, name):
    copy = spoilt(put(*EXPERT, "tensors", name, {"scheme": "nf4", "shape": [8], "dtype": "bfloat16"}))
    check_expert(copy / "high_noise")  # nothing is stored of it, so nothing is missing


def test_a_shard_of_another_model_of_the_same_size_is_told(model, tmp_path):
    """The text encoder's last block in the place of its first: every size is right, every name wrong."""
    copy = copied(model, tmp_path / "model")
    first, last = (copy / "text_encoder" / f"block-0{index}.safetensors" for index in (0, 1))
    assert first.stat().st_size == last.stat().st_size
    first.write_bytes(last.read_bytes())
    with pytest.raises(CheckpointError, match=r"it lacks encoder\.block\.0"):
        check_text_encoder(copy / "text_encoder")


def test_every_byte_of_the_model_but_the_manifest_is_in_it(model):
    manifest = read_manifest(model)
    named = {shard.file for component in manifest.components.values() for shard in component.shards}
    assert set(contents(model)) == named | set(manifest.files) | {FILE_NAME}
