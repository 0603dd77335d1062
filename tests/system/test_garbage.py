"""Python's search for garbage is off while PyTorch comes in, and finds less to look at from then on."""

import gc
import sys

import pytest

from holo_lite.system.garbage import bringing_torch

pytestmark = pytest.mark.usefixtures("without_torch")


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_looked_for_meanwhile_and_what_came_in_is_left_out_later():
    gc.unfreeze()
    with bringing_torch():
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
        came = [[]]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert not any(each is came for each in gc.get_objects())


def test_a_library_that_cannot_be_imported_leaves_the_search_on():
    with pytest.raises(ImportError), bringing_torch():
        raise ImportError
    assert gc.isenabled()


def test_where_somebody_turned_it_off_it_stays_off():
    gc.disable()
    with bringing_torch():
        pass
    assert not gc.isenabled()


def test_where_torch_is_there_nothing_changes(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    gc.unfreeze()
    with bringing_torch():
        assert gc.isenabled()
    assert gc.get_freeze_count() == 0
