"""The allocator's cap, as a card would be asked for it, and what is given back to the card."""

import pytest
import torch

from holo_lite import ModelOptions, Options, Pipeline, Shot, Storyboard
from holo_lite.errors import RoomError
from holo_lite.events import PhaseStarted
from holo_lite.render.device_memory import capped, naming_shortage

GIB = 2**30


class Card:
    """torch.cuda as far as a cap needs it, and as strict: the fraction wants a device with a number."""

    def __init__(self):
        self.fractions = []

    def mem_get_info(self, _device):
        return 3 * GIB, 8 * GIB

    def current_device(self):
        return 3

    def set_per_process_memory_fraction(self, fraction, device):
        self.fractions.append((fraction, torch._utils._get_device_index(device)))

    def reset_peak_memory_stats(self, _device):
        pass


@pytest.fixture
def card(monkeypatch):
    found = Card()
    monkeypatch.setattr(torch, "cuda", found)
    return found


@pytest.mark.parametrize(("name", "index"), [("cuda", 3), ("cuda:1", 1)])
def test_the_allocator_is_held_to_the_budget_and_let_go_again(card, name, index):
    with pytest.raises(ArithmeticError), capped(torch.device(name), 2 * GIB):
        raise ArithmeticError
    assert card.fractions == [(0.25, index), (1.0, index)]


def test_a_budget_beyond_the_card_is_the_card(card):
    with capped(torch.device("cuda"), 80 * GIB):
        assert card.fractions == [(1.0, 3)]


def test_a_lack_of_memory_that_nothing_makes_up_for_is_one_line():
    with pytest.raises(RoomError, match="close other programs"), naming_shortage():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
    with pytest.raises(RuntimeError, match="shapes"), naming_shortage():
        raise RuntimeError("shapes do not match")


def test_phases_begin_with_memory_that_the_last_one_has_given_back(tmp_path, monkeypatch):
    """As `benchmarks.allocator` takes it to be: else a small card must stop and look for some in a step."""
    seen = []
    monkeypatch.setattr("holo_lite.render.run_phases.clear", lambda _: seen.append("clear"))
    board = Storyboard("[character1] is a red circle.", (Shot("Wide shot of [character1]."),))
    options = Options(frames=5, height=16, width=16, steps=1)
    events = Pipeline.load(options=ModelOptions(device="cpu")).generate(board, tmp_path / "a.mp4", options)
    seen.extend(event.phase for event in events if isinstance(event, PhaseStarted))
    assert seen == ["text", "clear", "denoise", "load", "clear", "decode"]
