"""What the documentation states about formats and profiles is what the code does."""

import re
from pathlib import Path

from holo_lite.evaluation.ablations import CLIPS
from holo_lite.evaluation.cuts import NEAR, TIMES_ITS_NEIGHBOURS
from holo_lite.evaluation.marks import SCORES
from holo_lite.evaluation.scores import wilson
from holo_lite.plan.machine import Machine
from holo_lite.plan.report import abilities
from holo_lite.schemes.registry import SCHEMES

ROOT = Path(__file__).parent.parent


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
    assert f"With 200 storyboards and not one miss, the lower end stands at {100 * wilson(1, 200)[0]:.1f} %" in page
