"""Ranks that others start, and a first rank that is killed: `make ranks-test`.

What is here starts a dozen processes for one fact each, and is no part of `make test`.
"""

import signal
import subprocess

from test_following import LONG, SMALL, command, left_by_the_first_rank


def test_torchrun_starts_the_ranks_and_they_all_end(tmp_path):
    words = ("generate", "a red circle", *SMALL, "--device", "cpu", "--out", "film.mp4")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run = subprocess.run(
        command(*words, launcher=launcher), cwd=tmp_path, capture_output=True, text=True, timeout=LONG, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "guidance branches apart" in run.stderr
    assert (tmp_path / "film.mp4").is_file()


def test_nothing_is_left_running_when_the_first_rank_is_killed(tmp_path):
    left_by_the_first_rank(tmp_path, signal.SIGKILL)
