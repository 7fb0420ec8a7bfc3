"""What rounding alone can move is left out of a fingerprint, and nothing else."""

import subprocess
import sys

import pytest

from chapters.course import rounding
from chapters.course.catalog import lessons

RUN = {"metrics": {"loss": {"count": 3, "mean": 0.5, "last": 0.25}, "nothing": {"last": None}}}


def moved(**last):
    return {"metrics": {**RUN["metrics"], "loss": {**RUN["metrics"]["loss"], **last}}}


def test_numbers_that_agree_stay():
    assert rounding.stable(RUN, [RUN, moved(last=0.25 + 1e-7)]) == RUN


def test_a_number_that_moves_under_one_setting_is_left_out_and_its_name_stays():
    kept = rounding.stable(RUN, [RUN, moved(last=0.26)])
    assert kept == {"metrics": {"loss": {"count": 3, "mean": 0.5}, "nothing": {"last": None}}}


def test_a_number_that_is_not_one_under_another_setting_is_left_out():
    assert "last" not in rounding.stable(RUN, [moved(last=None)])["metrics"]["loss"]


def test_a_missing_name_is_refused():
    with pytest.raises(ValueError, match="one side only"):
        rounding.stable(RUN, [{"metrics": {}}])


def test_settings_reach_the_process():
    for setting, variables in rounding.SETTINGS.items():
        assert variables.items() <= rounding.environment(setting).items()
    assert not set(rounding.SETTINGS) & set(rounding.NOISE)


def test_a_setting_that_the_processor_cannot_do_is_left_out(monkeypatch, capsys):
    """Told to use AVX-512 where it is not, torch dies of an illegal instruction."""
    for listed, expected in (("flags : fma avx2", False), ("avx2 avx512f", True), ("Features : asimd", True)):
        monkeypatch.setattr(rounding.Path, "read_text", lambda self, listed=listed, **_: listed)
        assert rounding.can("avx512") == expected
        assert rounding.can("plain")
        assert rounding.can("avx2")
    monkeypatch.setattr(rounding, "can", lambda setting: False)
    monkeypatch.setattr(sys, "argv", ["rounding", "under", "avx512", "false"])
    rounding.main()
    assert "this processor cannot" in capsys.readouterr().err


@pytest.mark.slow
def test_noise_moves_weights_by_some_units_in_the_last_place_and_by_its_seed():
    code = """
import os, torch
from chapters.course.rounding import AMPLITUDE, add_noise
from chapters.utils.optim import Adam
for seed in (1, 1, 2):
    if os.fork():  # noise is for the whole of a process: one for each, of one import
        assert os.wait()[1] == 0
        continue
    add_noise(seed)
    moved = []
    for make in (lambda w: Adam([w], lr=1.0), lambda w: torch.optim.SGD([{"params": [w]}], lr=1.0)):
        weight = torch.ones(100, requires_grad=True)
        make(weight)
        gap = (weight - 1).abs().max().item()
        assert 1e-7 < gap < 2 * AMPLITUDE, gap
        moved += weight.tolist()
    print(moved, flush=True)
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, again, other = done.stdout.splitlines()
    assert first == again != other


@pytest.mark.slow
def test_a_lesson_runs_with_noise(tmp_path):
    item = lessons()[0]
    command = rounding.command("noise-1", item.path, ["--smoke", "--out", str(tmp_path)])
    subprocess.run(command, check=True, capture_output=True)
    assert list(tmp_path.glob(f"{item.id}/*/claims.json"))
