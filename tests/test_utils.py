"""Claims, run log, evaluation, files: the pieces every lesson leans on."""

import json
import math
import random

import numpy as np
import pytest

from chapters.envs import evaluate
from chapters.utils import Claim, CpuClock, RunLog, bootstrap_interval, seed_everything, write_atomic
from chapters.utils.evaluation import crossing, sustained
from chapters.utils.runlog import is_timing, new_run_folder, read_metrics


@pytest.mark.parametrize(
    ("value", "bound", "holds"),
    [
        (1.0, {"at_least": 1.0}, True),
        (0.999, {"at_least": 1.0}, False),
        (1.0, {"at_most": 1.0}, True),
        (1.001, {"at_most": 1.0}, False),
        (0.45, {"near": (0.5, 0.1)}, True),
        (0.35, {"near": (0.5, 0.1)}, False),
        (0.0, {"at_most": 0.0}, True),
        (0.1, {"at_most": 0.0}, False),
        (math.nan, {"at_least": -1e9}, False),
        (math.nan, {"at_most": 1e9}, False),
        (math.inf, {"near": (0.0, 1.0)}, False),
    ],
)
def test_verdict(value, bound, holds):
    claim = Claim("x", "says x", value, **bound)
    assert claim.holds is holds
    stored = json.loads(json.dumps({**claim.to_dict(), "value": None if math.isnan(value) else value}))
    assert Claim.from_dict(stored).holds is holds


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"at_most": 1 - 1e-6}, "≤ 0.999999"),
        ({"at_least": 1 - 1e-9}, "≥ 0.999999999"),
        ({"near": (1 + 1e-6, 1e-9)}, "1.000001 ± 1e-09"),
        ({"at_least": 475.0}, "≥ 475"),
        ({"at_most": 2 / 3}, "≤ 0.6667"),
        ({"at_most": 0.0}, "≤ 0"),
        ({"at_most": math.inf}, "≤ inf"),
    ],
)
def test_no_bound_is_written_as_a_whole_number_that_it_is_not(bound, words):
    assert Claim("x", "says x", 0.5, **bound).bound == words


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1, "at_most": 2}, {"at_least": 1, "seeds": "5/4"}])
def test_a_claim_without_one_clear_bound_is_refused(bounds):
    with pytest.raises(ValueError, match="claim 'x'"):
        Claim("x", "says x", 1.0, **bounds)


@pytest.mark.parametrize(
    ("seeds", "held", "recorded", "enough"),
    [
        ("4/5", 4, 5, True),
        ("4/5", 3, 5, False),
        ("4/5", 8, 10, True),
        ("9/10", 8, 10, False),
        ("9/10", 5, 5, True),
        ("1/1", 4, 5, False),
        ("4/5", 0, 0, False),
    ],
)
def test_enough_seeds(seeds, held, recorded, enough):
    assert Claim("x", "says x", 1.0, at_least=0, seeds=seeds).enough(held, recorded) is enough


def test_run_log_reads_back_what_was_written(tmp_path):
    log = RunLog(tmp_path, "B1")
    log.write(0, loss=0.5, value=np.float32(2))
    log.write(10, loss=math.nan)
    log.close()
    assert log.series("loss")[0] == [0, 10]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')  # what a kill in mid-write leaves
    metrics = read_metrics(tmp_path)
    assert metrics["value"] == [(0, 2.0)]
    assert metrics["loss"][0] == (0, 0.5)
    assert math.isnan(metrics["loss"][1][1])


def test_a_claim_is_made_once(tmp_path):
    log = RunLog(tmp_path, "B1")
    log.claim("x", "says x", 1, at_least=0)
    with pytest.raises(ValueError, match="twice"):
        log.claim("x", "says x", 1, at_least=0)
    log.close()


def test_a_broken_tracker_never_stops_a_run(tmp_path, capsys):
    class Broken:
        def write(self, step, metrics):
            raise ConnectionError("gone")

        def close(self):
            raise ConnectionError("still gone")

    log = RunLog(tmp_path, "B1", trackers=[Broken()])
    for step in range(3):
        log.write(step, loss=1.0)
    log.close()
    assert len(log.series("loss")[0]) == 3
    assert capsys.readouterr().err.count("tracker stopped: gone") == 1


def test_write_atomic_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "the temporary file is gone"


def test_run_folders_never_collide(tmp_path):
    folders = {new_run_folder(tmp_path, "B1", 0) for _ in range(5)}
    assert len(folders) == 5


@pytest.mark.parametrize(
    ("name", "timing"),
    [
        ("train_seconds", True),
        ("steps_per_second", True),
        ("our_megabytes", True),
        ("loss", False),
        ("seconds", False),
    ],
)
def test_timings_are_told_by_name(name, timing):
    assert is_timing(name) is timing


def test_evaluate_counts_one_whole_episode_in_each_copy():
    """A fixed policy's returns equal those of gymnasium's own episodes, whichever finish first."""
    returns = evaluate(lambda obs: np.zeros(len(obs), dtype=int), "CartPole-v1", episodes=50, seed=1)
    assert returns.shape == (50,)
    assert 8 <= returns.min() <= returns.max() <= 11  # always pushing left fails within 8 to 11 steps
    endless = evaluate(lambda obs: np.zeros(len(obs), dtype=int), "ProbeEndless-v0", episodes=3, seed=1)
    np.testing.assert_array_equal(endless, 10.0)  # one reward a step up to the time limit, not one more


def test_bootstrap_interval_covers_the_mean():
    """Over 200 samples of 30 normal values, the 95 % interval covers the true mean about 95 % of the time."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(1.0, 2.0, 30))
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99
    assert bootstrap_interval([3.0, 3.0, 3.0]) == (3.0, 3.0)


def test_two_different_values_have_an_interval():
    low, high = bootstrap_interval([1.0, 2.0], statistic=np.mean)
    assert 1.0 <= low < high <= 2.0
    assert bootstrap_interval([1.0, 2.0, 4.0], np.median) == bootstrap_interval([1.0, 2.0, 4.0], np.median)


def test_a_claim_is_stored_by_what_it_says():
    claim = Claim("x", "says x", 0.0, at_most=0.0, seeds="9/10", always=True)
    assert claim.to_dict() == {
        "name": "x", "statement": "says x", "value": 0.0, "at_most": 0.0, "seeds": "9/10", "always": True,
        "holds": True,
    }  # fmt: skip


def test_cpu_clock_counts_only_inside():
    clock = CpuClock()
    sum(range(2_000_000))
    assert clock.seconds == 0
    with clock:
        sum(range(2_000_000))
    assert 0 < clock.seconds < 2


def test_seed_everything_repeats_and_differs():
    import torch

    draws = {}
    for seed in (7, 7 + 64, 7 + 2**32, 7):
        seed_everything(seed)
        found = random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002 — the global state
        assert draws.setdefault(seed, found) == found
    assert torch.get_num_threads() == 1
    distinct = [len({found[column] for found in draws.values()}) for column in range(3)]
    assert distinct == [3, 2, 2], "NumPy and torch take 32 bits of a seed"


@pytest.mark.parametrize(
    ("returns", "at"),
    [
        ([], None),
        ([480, 480], None),
        ([480, 480, 480], 2),
        ([480, 480, 474, 475, 475, 475, 500], 5),  # the threshold itself counts, one below it starts anew
        ([500, 500, 474, 500, 500], None),
    ],
)
def test_sustained_is_the_third_check_in_a_row(returns, at):
    assert sustained(returns, 475) == at


def test_crossing_reads_the_clock_at_the_third_check():
    checks = {
        "ppo_return": [(10, 480.0), (20, 100.0), (30, 475.0), (40, 475.0), (50, 475.0), (60, 475.0)],
        "ppo_cpu_seconds": [(10, 0.1), (20, 0.2), (30, 0.3), (40, 0.4), (50, 0.5), (60, 0.6)],
        "dqn_return": [(10, 480.0), (20, 480.0)],
        "dqn_cpu_seconds": [(10, 0.1), (20, 0.2)],
    }
    assert crossing(checks, "ppo", 475.0) == (0.5, 50)
    assert crossing(checks, "dqn", 475.0) == (math.inf, math.inf)
    assert crossing(checks, "absent", 475.0) == (math.inf, math.inf)
