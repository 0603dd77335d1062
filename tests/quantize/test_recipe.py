"""Which tensor gets which scheme, and what is said of a recipe that cannot be followed."""

import pytest
from conversions import BLOCKS, convert, plan, write_source

from holo_lite.errors import SettingsError
from holo_lite.weights.manifest import read_manifest
from quantize.recipe import Recipe, Rule, load_recipe

FFN, QUERY = "blocks.0.ffn.0.weight", "blocks.0.self_attn.q.weight"
DOCUMENTED = """
scheme = "nf4"

[components]
text_encoder = "int8"

[[rule]]
component = "*_noise"
name = "blocks.0.*"
scheme = "int8"

[[rule]]
component = "*_noise"
name = "blocks.39.*"
scheme = "int8"
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text, scheme=None):
        (tmp_path / "recipe.toml").write_text(text)
        return load_recipe(tmp_path / "recipe.toml", scheme)

    return write


def refused(call):
    with pytest.raises(SettingsError) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_documents_recipe_does_what_it_says(recipe):
    found = recipe(DOCUMENTED)
    schemes = [
        found.scheme_for(role, f"blocks.{index}.ffn.0.weight")
        for role in ("high_noise", "low_noise")
        for index in (0, 1, 10, 38, 39)
    ]
    assert schemes == ["int8", "nf4", "nf4", "nf4", "int8"] * 2
    assert found.scheme_for("text_encoder", "encoder.block.0.layer.0.SelfAttention.q.weight") == "int8"


def test_the_first_rule_that_fits_decides_then_the_component_then_the_scheme():
    rules = (Rule("*.q.weight", "qint8"), Rule("blocks.0.*", "qint4", "high_noise"), Rule("*", "bf16", "low_noise"))
    recipe = Recipe("nf4", {"high_noise": "int8"}, rules)
    assert recipe.scheme_for("high_noise", QUERY) == "qint8"
    assert recipe.scheme_for("high_noise", FFN) == "qint4"
    assert recipe.scheme_for("high_noise", "blocks.1.ffn.0.weight") == "int8"
    assert recipe.scheme_for("low_noise", FFN) == "bf16"
    assert recipe.scheme_for("text_encoder", FFN) == "nf4"


def test_the_command_lines_scheme_goes_before_the_files_own_and_rules_before_both(recipe):
    assert recipe(DOCUMENTED, "qint8").scheme_for("high_noise", "blocks.1.ffn.0.weight") == "qint8"
    assert recipe(DOCUMENTED, "qint8").scheme_for("high_noise", FFN) == "int8"
    assert recipe("", "qint8") == Recipe("qint8")


def test_two_recipes_that_say_the_same_are_the_same(recipe):
    assert recipe('scheme = "nf4"') == Recipe("nf4")
    assert recipe('scheme = "nf4"\n[[rule]]\nname = "*"\nscheme = "int8"') == Recipe(
        "nf4", {}, (Rule("*", "int8"),)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('schem = "nf4"', "unknown key 'schem'; did you mean 'scheme'?"),
        ('scheme = "nf4"\n[[rules]]', "unknown key 'rules'; did you mean 'rule'?"),
        ('scheme = "nf4"\n[[rule]]\nnames = "*"', "unknown key 'names'; did you mean 'name'?"),
        ('scheme = "nf5"', "unknown scheme 'nf5'; did you mean 'nf4'? (choose bf16, int8,"),
        ('scheme = "nf4"\n[components]\nhigh_noise = "int9"', "unknown scheme 'int9'; did you mean 'int8'?"),
        ('scheme = "nf4"\n[[rule]]\nname = "*"\nscheme = "qint2"', "unknown scheme 'qint2'; did you mean 'qint"),
        (
            'scheme = "nf4"\n[components]\nhighnoise = "int8"',
            "no component 'highnoise' to quantize; did you mean 'high_",
        ),
        ('scheme = "nf4"\n[components]\nvae = "int8"', "no component 'vae' to quantize; they are high_noise, low_"),
        (
            'scheme = "nf4"\n[[rule]]\ncomponent = "hihg_noise"\nname = "*"\nscheme = "int8"',
            "no component 'hihg_noise' to quantize; did you mean 'high_noise'?",
        ),
        ('scheme = "n\\nf5"', r"unknown scheme 'n\nf5'"),
        ('scheme = "nf4"\n"a\\nb" = 1', r"unknown key 'a\nb'"),
        ('scheme = "nf4"\n[components]\n"a\\nb" = "int8"', r"no component 'a\nb' to quantize"),
        ("", 'a recipe needs scheme = "…"; see docs/format.md'),
        ("scheme = 4", "a recipe needs scheme"),
        ('scheme = "nf4"\n[[rule]]\nscheme = "int8"', "a recipe needs name"),
        ('scheme = "nf4"\n[[rule]]\nname = "*"', "a recipe needs scheme"),
        ('scheme = "nf4"\n[[rule]]\nname = 1\nscheme = "int8"', "a recipe needs name"),
        ('scheme = "nf4"\ncomponents = "int8"', "write components as a table"),
        ('scheme = "nf4"\n[components]\nhigh_noise = 4', "a recipe needs high_noise"),
        ('scheme = "nf4"\nrule = 5', "write each rule as a table"),
        ('scheme = "nf4"\nrule = [5]', "write each rule as a table"),
        ('scheme = "nf4"\n[rule]\nname = "*"', "write each rule as a table"),
        ("scheme = ", "is not valid TOML"),
        ("a = " + "[" * 100_000, "is not valid TOML"),
    ],
    ids=range(24),
)
def test_a_recipe_that_cannot_be_followed_says_why(recipe, text, said):
    assert said in refused(lambda: recipe(text))


def test_a_recipe_that_cannot_be_read_is_named(tmp_path):
    assert "recipe.toml: cannot be read (No such file" in refused(
        lambda: load_recipe(tmp_path / "recipe.toml", None)
    )
    assert "cannot be read (Is a directory)" in refused(lambda: load_recipe(tmp_path, "nf4"))
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    assert "is not valid TOML" in refused(lambda: load_recipe(tmp_path / "binary", None))


# --- what becomes of it ----------------------------------------------------------------------------


def test_every_tensor_is_stored_as_the_recipe_says(tmp_path):
    source = write_source(tmp_path / "source")
    rules = (Rule("blocks.0.*", "int8", "*_noise"), Rule(f"blocks.{BLOCKS - 1}.ffn.*", "bf16", "low_noise"))
    recipe = Recipe("nf4", {"text_encoder": "qfloat8"}, rules)
    convert(source, tmp_path / "out", recipe=recipe)
    manifest = read_manifest(tmp_path / "out")
    found = {role: {} for role in manifest.components}
    for role, component in manifest.components.items():
        for name, tensor in component.tensors.items():
            found[role].setdefault(tensor.scheme, []).append(name)
    blocks = len([name for name in found["high_noise"]["nf4"] if name.startswith("blocks.1.")])
    assert blocks == 10  # q, k, v, o twice, and two of the feed-forward
    assert {name.split(".")[1] for name in found["high_noise"]["int8"]} == {"0"}
    assert sorted(found["low_noise"]) == ["int8", "nf4", "plain"]
    assert {f"blocks.{BLOCKS - 1}.ffn.{part}.weight" for part in (0, 2)} <= set(found["low_noise"]["plain"])
    assert sorted(found["text_encoder"]) == ["plain", "qfloat8"]
    assert sorted(found["vae"]) == ["plain"]
    assert manifest.scheme == "nf4"
    assert manifest.recipe["components"] == {"text_encoder": "qfloat8"}
    assert manifest.recipe["rules"][0] == {"name": "blocks.0.*", "scheme": "int8", "component": "*_noise"}


def test_a_rule_cannot_quantize_what_is_no_linear_of_a_block(tmp_path):
    source = write_source(tmp_path / "source")
    conversion = plan(source, tmp_path / "out", recipe=Recipe("bf16", {}, (Rule("*", "int8"),)))
    packed = {t.name for c in conversion.components for s in c.shards for t in s.tensors if t.scheme != "plain"}
    assert all(name.endswith(".weight") and "block" in name for name in packed)
    assert not any("norm" in name or "relative" in name or "embedding" in name for name in packed)


def test_a_weight_the_scheme_cannot_hold_stays_as_it_is(toy_copy, tmp_path):
    """The toy is 96 wide: nf4 wants rows in blocks of 64."""
    conversion = plan(toy_copy, tmp_path / "out")
    schemes = {t.name: t.scheme for t in conversion.components[0].shards[1].tensors}
    assert schemes["blocks.0.ffn.0.weight"] == "plain"
    assert schemes["blocks.0.ffn.2.weight"] == "nf4"
