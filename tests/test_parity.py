"""The reference's outputs, and the script that compares any folder of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import parity
import pytest
import torch
from safetensors.torch import load_file, save_file

DATA = Path(__file__).parent / "parity_data"
ALL = 106


@pytest.fixture(scope="module")
def checks():
    return list(parity.all_checks(DATA))


def test_every_number_agrees_with_the_reference(checks):
    failed = [f"{check.name}: {check.error} above {check.bound}" for check in checks if not check.passed]
    assert not failed


def test_no_check_is_lost_without_being_missed(checks):
    assert len(checks) >= ALL
    assert len({check.name for check in checks}) == len(checks)
    kinds = ("prompt", "shots", "schedule", "forward", "sampling", "text encoder", "vae")
    assert all(any(check.name.startswith(kind) for check in checks) for kind in kinds)


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks_agree_with_the_reference_too(ranks):
    checks = [*parity.check_forward_by_ranks(DATA, ranks), *parity.check_sampling_by_ranks(DATA, ranks)]
    assert [f"{check.name}: {check.error} above {check.bound}" for check in checks if not check.passed] == []
    assert len(checks) > 10


def test_a_check_that_yields_nan_has_failed():
    nothing = torch.full((3,), float("nan"))
    assert not parity.close("x", nothing, torch.ones(3), parity.FORWARD).passed
    assert not parity.close("x", torch.ones(3), nothing, parity.FORWARD).passed


@pytest.fixture
def run_script(monkeypatch, capsys):
    """The script as it is run, but in this process: exit code and lines."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["parity.py", *map(str, arguments)])
        code = parity.main()
        return code, capsys.readouterr().out.splitlines()

    return run


def test_script_prints_a_line_per_check_and_exits_with_0(run_script, checks, monkeypatch):
    """The checks of the tests above, which need not be made again."""
    monkeypatch.setattr(parity, "all_checks", lambda *_: iter(checks))
    code, lines = run_script(DATA)
    assert code == 0
    assert sum(line.startswith("ok  ") for line in lines) >= ALL
    assert not any(line.startswith("FAIL") for line in lines)
    assert lines[-1].endswith("checks, 0 failed")


def test_tampered_data_without_a_tokenizer(tmp_path):
    """One number of one expected tensor is wrong, and the tokenizer is gone: said, and no other check lost.

    By the script as it is run, in a process of its own.
    """
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder, ignore=shutil.ignore_patterns("umt5-xxl"))
    tensors = load_file(folder / "dit_forward.safetensors")
    key = parity.read(folder / "dit_forward.json")[0]["key"]
    tensors[key].view(-1)[5] += 0.1
    save_file(tensors, folder / "dit_forward.safetensors")

    done = subprocess.run([sys.executable, parity.__file__, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("FAIL")]
    assert len(failed) == 1
    assert f"forward {key} " in failed[0]

    assert "no tokenizer" in lines[0]
    prompts = len(parity.read(folder / "prompts.json"))
    assert sum("token ids" in line or "offsets" in line for line in lines[1:]) == 0
    assert sum("global range" in line for line in lines) == prompts
    assert sum("shot ranges" in line for line in lines) == prompts
    assert len(lines) - 2 >= ALL - 2 * prompts


def test_script_without_a_folder_says_how_it_is_used(run_script):
    assert run_script()[0] == 2
