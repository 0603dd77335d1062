"""Whatever asks a command to stop is heard once, as Ctrl-C is, and what is ignored stays ignored."""

import os
import signal

import pytest

from holo_lite.commands.stopping import PATIENCE, Stop, stoppable

KILL = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.mark.parametrize(("name", "code"), KILL.items())
def test_every_signal_that_asks_to_stop_interrupts_and_has_its_exit_code(name, code):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stoppable() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert stop.code == code
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_disturb_the_clearing_away():
    with stoppable() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.number == signal.SIGINT


def test_who_clears_away_for_too_long_can_be_stopped_again(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("holo_lite.commands.stopping.time.monotonic", lambda: now[0])
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, None)
    now[0] += PATIENCE / 2
    stop(signal.SIGINT, None)
    now[0] += PATIENCE
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGTERM, None)
    assert stop.number == signal.SIGTERM


def test_what_was_ignored_before_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
