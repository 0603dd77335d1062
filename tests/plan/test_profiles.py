"""Profiles: what ships, what is refused, which one is chosen, and where resident blocks stand."""

import re
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

from holo_lite.errors import RoomError, SettingsError
from holo_lite.model.clip import Chunks
from holo_lite.plan.card_table import CARDS
from holo_lite.plan.cards import card_keys, find_card
from holo_lite.plan.choose import choose_profile
from holo_lite.plan.machine import Machine, machine_with, smaller_free, this_machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import GIB, find_profile, shipped_profiles
from holo_lite.plan.released import released_sizes
from holo_lite.plan.search import Problem
from holo_lite.story.shots import ShotLayout
from holo_lite.streaming.residency import evenly
from holo_lite.system.pinning import pinned_is_scarce

ROOT = Path(__file__).parents[2]
SIZES = released_sizes("nf4")
NAMES = ["6gb", "8gb", "12gb", "16gb", "24gb", "32gb", "cpu"]


def test_the_shipped_profiles_from_the_smallest_card_on():
    assert [profile.name for profile in shipped_profiles()] == NAMES
    assert [profile.card // GIB for profile in shipped_profiles()] == [6, 8, 12, 16, 24, 32, 0]
    assert all(profile.headroom == GIB for profile in shipped_profiles() if profile.device == "cuda")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_file_is_short_and_explains_every_key(name):
    lines = (ROOT / "profiles" / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 22
    for number, line in enumerate(lines):
        if " = " in line:
            explained = "#" in line or "#" in lines[number - 1] or "#" in lines[number - 2]
            assert explained, line


def test_rungs_halve_down_to_the_smallest():
    rungs = find_profile("8gb").rungs
    assert rungs == (Chunks(8192, 4096), Chunks(4096, 2048), Chunks(2048, 1024), Chunks(1024, 512))


def own_file(folder, **changes):
    text = (ROOT / "profiles" / "8gb.toml").read_text(encoding="utf-8")
    for key, value in changes.items():
        lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
        text = "\n".join([*lines, *([] if value is None else [f"{key} = {value}"])])
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_of_ones_own(tmp_path):
    profile = find_profile(own_file(tmp_path, card_gib=10, cfg='"sequential"', slots=3))
    assert (profile.name, profile.card, profile.cfg, profile.slots) == ("mine", 10 * GIB, "sequential", 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"card_gb": 8}, "unknown key 'card_gb'; did you mean 'card_gib'?"),
        ({"card_gib": None}, "card_gib is missing"),
        ({"card_gib": '"8"'}, "card_gib '8': give a whole number"),
        ({"card_gib": "true"}, "card_gib True: give a whole number"),
        ({"card_gib": 1}, "take the whole card"),
        ({"slots": 1}, "slots 1: give a whole number from 2 to 3"),
        ({"cfg": '"jiont"'}, "give one of auto, joint, sequential; did you mean 'joint'?"),
        ({"tiling": "1"}, "tiling 1: give one of"),
        ({"schemes": '["nf5"]'}, "unknown scheme 'nf5'; did you mean 'nf4'?"),
        ({"schemes": "[]"}, "give a list of names"),
        ({"largest_chunks": "[8192]"}, "give two numbers of tokens"),
        ({"smallest_chunks": "[16384, 512]"}, "swap them"),
        ({"smallest_chunks": "[0, 512]"}, "give two numbers of tokens"),
    ],
)
def test_what_makes_no_profile_is_told_on_one_line(tmp_path, changes, said):
    with pytest.raises(SettingsError) as caught:
        find_profile(own_file(tmp_path, **changes))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/mine.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "near"), [("10gb", "8gb"), ("20 GB", "16gb"), ("48g", "32gb"), ("4gib", "6gb")])
def test_a_size_that_is_not_shipped_is_told_the_next_smaller(name, near):
    with pytest.raises(SettingsError, match=f"; the nearest is '{near}', and auto takes all that is free$"):
        find_profile(name)


def test_a_name_or_a_file_that_is_not_there():
    with pytest.raises(SettingsError, match=r"did you mean '8gb'\?"):
        find_profile("8bg")
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read"):
        find_profile("nowhere.toml")


def test_a_file_that_is_no_toml(tmp_path):
    (tmp_path / "mine.toml").write_text("card_gib = = 8")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        find_profile(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        find_profile(str(tmp_path / "mine.toml"))


def test_the_package_takes_its_files_along():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert data["profiles"] == ["*.toml"]


def card(total, free=None):
    return Machine("a card", int(total * GIB), int((total if free is None else free) * GIB), 64 * GIB, 60 * GIB)


@pytest.mark.parametrize(
    ("total", "free", "name"),
    [
        (23.99, 23.3, "24gb"),
        (8, 7.5, "8gb"),
        (8, 5.6, "6gb"),
        (10, 9.8, "8gb"),
        (24, 11.6, "12gb"),
        (80, 79, "32gb"),
        (4, 3.9, "6gb"),
    ],
)
def test_the_choice_goes_by_what_is_free(total, free, name):
    profile, why = choose_profile(card(total, free), SIZES)
    assert profile.name == name
    assert profile.card - profile.headroom == pytest.approx(min(total - 1, free - 0.5) * GIB, abs=2)
    assert why.startswith(f"profile {name}: {free:.1f} of {total:.1f} GiB free on a card, 64.00 GiB of RAM")


def machine(gib, ram):
    return Machine("a card", gib * GIB, gib * GIB, ram * GIB, ram * GIB)


@pytest.mark.parametrize(
    ("gib", "ram", "scheme", "found"),
    [
        (8, 64, "nf4", "model in nf4: 17 of 40 blocks stay, 22 in RAM"),
        (8, 16, "nf4", "model in nf4: 17 of 40 blocks stay, 22 in RAM"),
        (8, 8, "nf4", "model in nf4: 17 of 40 blocks stay, 10 in RAM"),
        (8, 64, "int8", "model in int8: 8 of 40 blocks stay, 11 in RAM"),
        (24, 64, "nf4", "model in nf4: all blocks stay"),
        (4, 64, "bf16", "model in bf16: 241 frames are too many"),
    ],
)
def test_the_choice_is_judged_by_what_it_can_run_of_this_model_with_this_main_memory(gib, ram, scheme, found):
    _, why = choose_profile(machine(gib, ram), released_sizes(scheme))
    assert why.endswith(found)
    assert "\n" not in why


def test_a_profile_whose_rules_read_less_from_disk_is_chosen_over_a_larger_one(monkeypatch):
    """As with one that pins nothing, though it is for a larger card."""
    found = [replace(each, pinned=0) if each.name == "12gb" else each for each in shipped_profiles()]
    monkeypatch.setattr("holo_lite.plan.choose.shipped_profiles", lambda: tuple(found))
    assert choose_profile(machine(12, 64), released_sizes("int8"))[0].name == "8gb"
    assert choose_profile(machine(12, 64))[0].name == "12gb", "without a model each would have another scheme"


def test_the_reason_without_a_card_or_a_model():
    told = "profile cpu: no CUDA card here, 1.00 GiB of RAM, nf4 preferred: 241 frames are too many"
    assert choose_profile(Machine(ram=GIB))[1] == told
    assert choose_profile(machine_with(find_card("RTX 4090")))[0].name == "24gb"


def test_the_smaller_word_counts():
    assert smaller_free(7, None) == 7
    assert smaller_free(7, 5) == 5
    assert smaller_free(5, 7) == 5


class FullCard:
    """torch.cuda on a card without room for one more context."""

    name = "GeForce"

    def is_available(self):
        return True

    def get_device_properties(self, _index):
        return self

    def mem_get_info(self, _index):
        raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")


def test_a_card_too_full_to_be_asked_is_told_on_one_line(monkeypatch):
    monkeypatch.setattr(torch, "cuda", FullCard())
    with pytest.raises(RoomError) as caught:
        this_machine()
    told = "GeForce: cannot be asked for its memory (CUDA error: out of memory); close other programs"
    assert str(caught.value) == told


def test_this_machine_knows_its_main_memory():
    machine = this_machine()
    assert 0 < machine.ram_free <= machine.ram
    assert machine.has_card == (machine.free is not None)


@pytest.mark.parametrize("name", ["RTX 4090", "rtx4090", "NVIDIA GeForce RTX 4090", "4090"])
def test_a_card_is_found_however_it_is_written(name):
    assert find_card(name).name == "RTX 4090"


def test_an_unknown_card_is_told_with_the_nearest():
    with pytest.raises(SettingsError, match=r"'rtx 4091': unknown; did you mean 'RTX 40"):
        find_card("rtx 4091")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop"),
        ("4060ti 16g", "RTX 4060 Ti 16 GB"),
        ("RTX 3060 12GB", "RTX 3060"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("A6000", "RTX A6000"),
    ],
)
def test_names_that_drivers_and_shops_give_are_found(written, name):
    assert find_card(written).name == name


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("5070 super", "did you mean 'RTX 5070'?"),
        ("RTX 9090", "did you mean 'RTX 5090'?"),
        ("GTX 1080", "--profile 12gb"),
        ("RX 7900 XTX", "--profile 12gb"),
        ("banana", "--profile 12gb"),
    ],
)
def test_a_near_miss_names_a_card_of_the_same_number_and_others_none(written, hint):
    with pytest.raises(SettingsError, match=re.escape(hint)):
        find_card(written)


def test_no_two_cards_have_a_name_in_common():
    names = [key for card in CARDS for key in card_keys(card)]
    assert len(set(names)) == len(names)


def test_every_card_that_runs_says_how_many_multiprocessors_it_has():
    found = {card.name: card.multiprocessors for card in CARDS if card.capability >= (8, 0)}
    told = {"RTX 3060": 28, "RTX 3090": 82, "RTX 4090": 128, "RTX 5090": 170, "A100": 108, "H200": 132}
    assert told.items() <= found.items()
    assert all(count is not None and 16 <= count <= 192 for count in found.values())
    assert machine_with(find_card("H200")).multiprocessors == 132


class Card:
    """torch.cuda with an RTX 4090, most of it free."""

    name, uuid, multi_processor_count = "NVIDIA GeForce RTX 4090", "of-nothing", 128

    def is_available(self):
        return True

    def get_device_properties(self, _index):
        return self

    def mem_get_info(self, _index):
        return 23 * GIB, 24 * GIB


@pytest.mark.parametrize("free", [20, 23])
def test_what_asking_took_of_a_card_is_not_taken_from_it_twice(monkeypatch, free):
    """CUDA's context is there once it is asked, and every profile counts it, too."""
    monkeypatch.setattr(Card, "mem_get_info", lambda *_: (free * GIB, 24 * GIB))
    monkeypatch.setattr(torch, "cuda", Card())
    request = ClipRequest(ShotLayout.from_frames(33, (), 480, 832))
    problem = Problem(find_profile("24gb"), released_sizes("int8"), request, this_machine())
    assert problem.budget == free * GIB


def test_a_card_is_asked_how_many_multiprocessors_it_has(monkeypatch):
    monkeypatch.setattr(torch, "cuda", Card())
    assert this_machine().multiprocessors == find_card(Card.name).multiprocessors


@pytest.mark.parametrize(
    ("system", "release", "scarce"),
    [
        ("linux", "6.8.0-generic", False),
        ("linux", "5.15.167.4-microsoft-standard-WSL2", True),
        ("win32", "11", True),
        ("darwin", "24.1.0", False),
    ],
)
def test_where_pinned_memory_is_the_cards_is_known_by_the_system(monkeypatch, system, release, scarce):
    monkeypatch.setattr(torch, "cuda", Card())
    monkeypatch.setattr("holo_lite.system.pinning.sys.platform", system)
    monkeypatch.setattr("holo_lite.system.pinning.platform.release", lambda: release)
    assert pinned_is_scarce() == scarce
    assert this_machine().pins_little == scarce


def test_a_link_has_the_lanes_of_its_card():
    assert find_card("4090").link == pytest.approx(31.5e9, rel=1e-3)
    assert find_card("4060").link == pytest.approx(15.8e9, rel=1e-2)
    assert find_card("4090 laptop").link is None


@given(st.integers(0, 200).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_evenly_spread_places_differ_in_their_gaps_by_one_at_most(counts):
    count, total = counts
    places = evenly(count, total)
    assert len(set(places)) == len(places) == count
    assert list(places) == sorted(places)
    assert all(0 <= place < total for place in places)
    gaps = [b - a for a, b in pairwise(places)]
    assert not gaps or max(gaps) - min(gaps) <= 1
