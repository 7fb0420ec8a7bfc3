"""C3's stage on known runs: evenly spaced checks, right units; who never arrives counts as the budget."""

from itertools import pairwise

import pytest

from chapters.C_policy_gradients.evidence import C3_stage as stage
from chapters.utils import RunLog


def a_run(arrives):
    """Checks at 1,000 steps each; the goal is held from check `arrives[name]` on, or never."""
    metrics = {}
    for name in stage.LABELS:
        first = arrives.get(name, 99)
        returns = [-150.0 if check >= first else -900.0 for check in range(10)]
        metrics[f"stage_{name}_return"] = [(1000.0 * (i + 1), value) for i, value in enumerate(returns)]
        metrics[f"stage_{name}_cpu_seconds"] = [(1000.0 * (i + 1), 0.5 * (i + 1)) for i in range(10)]
    return {"metrics": metrics}


def test_claims_on_known_runs(tmp_path):
    runs = [a_run({"ppo": 0, "a2c": 4}), a_run({"ppo": 0, "a2c": 4}), a_run({"a2c": 4})]
    log = RunLog(tmp_path, "C3")
    stage.claim_stage(runs, log)
    found = {claim.name: claim.value for claim in log.claims}
    # PPO holds at its third check, 3,000 steps and 1.5 s; A2C at 7,000; REINFORCE never: its last check
    assert found["stage_a2c_steps"] == pytest.approx(7 / 3)
    assert found["stage_a2c_seconds"] == pytest.approx(7 / 3)
    assert found["stage_reinforce_steps"] == pytest.approx(10 / 3)
    assert found["stage_ppo"] == pytest.approx(2 / 3)


def test_checks_are_kept_evenly_apart_and_in_pendulums_units(tmp_path):
    quiet, log = RunLog(tmp_path / "a", "C0"), RunLog(tmp_path / "b", "C3")
    for number in range(8):  # REINFORCE's log counts episodes and has the steps beside them
        steps = 3200 * number
        values = {"return": -10.0 * number, "env_steps": steps, "cpu_seconds": 0.1 * number}
        quiet.write(16 * number, **{f"leave_one_out_{name}": value for name, value in values.items()})
    stage.keep("reinforce", "leave_one_out", quiet, log)
    steps, returns = log.series("stage_reinforce_return")
    assert steps[0] == 0
    assert all(later // stage.CHECK_EVERY > step // stage.CHECK_EVERY for step, later in pairwise(steps))
    assert returns == [pytest.approx(-100.0 * step / 3200) for step in steps]
