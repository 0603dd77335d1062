"""The allocator's cap, as a card would be asked for it."""

import pytest
import torch

from holo_lite.errors import RoomError
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
