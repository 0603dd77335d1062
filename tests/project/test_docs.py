"""What the documentation states about formats and profiles is what the code does."""

import math
import re
from pathlib import Path

import pytest

from holo_lite.evaluation.ablations import CLIPS
from holo_lite.evaluation.cuts import NEAR, TIMES_ITS_NEIGHBOURS
from holo_lite.evaluation.marks import SCORES
from holo_lite.evaluation.report import DIRECTING_TARGETS, MOST_APART
from holo_lite.evaluation.scores import wilson
from holo_lite.film.vae_shapes import vae_shapes
from holo_lite.plan.machine import Machine
from holo_lite.plan.profile import shipped_profiles
from holo_lite.plan.released import released_sizes
from holo_lite.preflight.forecast import abilities
from holo_lite.schemes.registry import SCHEMES
from holo_lite.text.encoder_sizes import UMT5_XXL
from holo_lite.version import __version__

ROOT = Path(__file__).parents[2]
BF16, FP32 = 2, 4  # bytes
VAE_WIDTH = 96  # of the released one


def rows(path):
    """The cells of every table row of a page."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_format_page_lists_every_scheme_with_its_parts_size_and_error():
    table = {row[0].strip("`"): row for row in rows("docs/format.md")}
    shape = (13824, 5120)
    for name, scheme in SCHEMES.items():
        if name == "bf16":
            continue
        _, _, parts, bits, error = table[name]
        found = re.findall(r"`(\w+)` (\w+) ", parts)
        assert found == [(part, str(p.dtype).removeprefix("torch.")) for part, p in scheme.parts(shape).items()]
        assert bits == f"{scheme.nbytes(shape) * 8 / (shape[0] * shape[1]):.2f}"
        assert error == f"{scheme.error_bound:.4f}"


def test_the_page_of_quality_names_every_target_of_directing():
    page = " ".join((ROOT / "docs/quality.md").read_text(encoding="utf-8").split())
    named = re.findall(r"Targets, for 200 storyboards in bf16: (.*?)\. ", page)
    text = " ".join(named)
    for targets in DIRECTING_TARGETS.values():
        assert all(f"{100 * least:.0f} %" in text for least in targets.values())
    assert f"within {MOST_APART:g} of 255" in text
    shares = [least for targets in DIRECTING_TARGETS.values() for least in targets.values()]
    assert len(re.findall(r"\d+ %", text)) == len(shares)


def said(plan):
    """How a table says how many blocks stay."""
    if plan.resident < plan.blocks:
        return f"{plan.resident} of {plan.blocks}"
    return f"all {plan.blocks}, and {plan.resident_other} of the next expert's"


def test_the_tables_say_what_profiles_says():
    readme = {row[0]: row for row in rows("README.md")}
    page = {row[0]: row for row in rows("docs/profiles.md")}
    for ability in abilities(Machine()):
        if ability.profile.device == "cpu":
            continue
        _, scheme, blocks, longest = readme[f"{ability.profile.card // 2**30} GB"]
        assert (scheme, longest) == (ability.scheme, f"{ability.in_shots.frames} frames")
        assert blocks.removesuffix(" blocks resident") == said(ability.plan)
        cells = page[ability.profile.name][2:]
        shortened = said(ability.plan).replace("all 40", "all")
        assert cells == [ability.scheme, shortened, str(ability.in_shots.frames), str(ability.as_one_shot.frames)]


def test_the_quality_page_explains_every_score_and_ablation():
    heads = [row[0] for row in rows("docs/quality.md")]
    named = [head.strip("`") for head in heads if head.startswith("`")]
    assert [name for name in named if name in SCORES] == [*SCORES]
    assert [head for head in heads if head in SCORES] == [*SCORES]  # those that were measured
    assert {name for name in named if name in CLIPS} == {name for name in CLIPS if name}
    page = " ".join((ROOT / "docs/quality.md").read_text(encoding="utf-8").split())
    assert f"at least {TIMES_ITS_NEIGHBOURS:g} times as much as any of the {NEAR} changes on either side" in page
    assert f"With 200 storyboards and not one miss, the lower end is {100 * wilson(1, 200)[0]:.1f} %" in page


def on_disk(scheme):
    """Bytes of the released model as it would be converted, the VAE in the fp32 in which it is released."""
    sizes, embedding = released_sizes(scheme), UMT5_XXL.vocabulary * UMT5_XXL.d_model * BF16
    experts = sum(stack.rest + stack.total for stack in (sizes.high_noise, sizes.low_noise))
    vae = sum(math.prod(shape) for shape in vae_shapes(VAE_WIDTH).values()) * FP32
    return experts + sizes.text.rest + sizes.text.total + embedding + vae


def test_the_first_run_takes_the_schemes_of_the_profiles_and_their_disk():
    page = {row[0]: row[1:] for row in rows("docs/first-run.md")}
    for profile in shipped_profiles():
        if profile.device == "cuda":
            scheme = profile.schemes[0]
            assert page[f"{profile.card // 2**30} GB"] == [scheme, f"{on_disk(scheme) / 1e9:.0f} GB"]


def test_the_first_run_quotes_the_conversions_that_were_measured():
    kept = (ROOT / "benchmarks" / "results" / "convert-cpu-2-cores.txt").read_text(encoding="utf-8")
    minutes = {line.split()[0]: float(line.split()[4]) for line in kept.splitlines() if line.split()[0] in SCHEMES}
    page = (ROOT / "docs" / "first-run.md").read_text(encoding="utf-8")
    assert f"{minutes['nf4']:.1f} minutes to nf4 and {minutes['int8']:.1f} to int8" in " ".join(page.split())


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page):
    """What a link can lead to within a page, by its headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        place, _, anchor = target.partition("#")
        if "://" not in target:
            found = page.parent / place if place else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), target


def test_the_table_of_contents_has_every_page():
    listed = re.findall(
        r"^\| \[[\w-]+\.md\]\((docs/[\w-]+\.md)\) \|", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == [f"docs/{page.name}" for page in PAGES[1:]]


def test_what_is_cited_is_this_version():
    said = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {__version__}" in said
