"""The diagnosis: each rule fires on what it is for and on nothing else; the zoo's runs; `rl diagnose`."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chapters.course.diagnose import metrics_of, report, run_folder
from chapters.diagnosis import names
from chapters.diagnosis import quantities as diagnostics
from chapters.diagnosis import rules as diagnosis
from chapters.E_practice import E3_bug_zoo as E3
from chapters.E_practice.checks.E3 import EDITS
from chapters.E_practice.evidence import E3 as evidence
from chapters.E_practice.evidence import E3_dqn, E3_text, E3_zoo
from chapters.envs import make_envs
from chapters.envs.probes import ANSWERS
from chapters.utils.edits import Edit, edited
from chapters.utils.lesson import UsageError, check_ranges
from chapters.utils.runlog import RunLog

RL = [sys.executable, "-c", "from chapters.course.cli import main; main()"]
COUNT = 40


def series(*values: float) -> list[tuple[int, float]]:
    """The values repeated over a run."""
    return [(i, values[i % len(values)]) for i in range(COUNT)]


def rising(first: float, last: float) -> list[tuple[int, float]]:
    return [(i, first + (last - first) * i / (COUNT - 1)) for i in range(COUNT)]


def healthy() -> dict:
    """What a right learner might log, each number inside its rule."""
    return {
        "gap_inside": series(1e-7, 2e-7), "gap_truncated": series(1e-7), "gap_terminated": series(0.0),
        "constants_with_grad": series(0.0), "first_ratio_gap": series(0.0, 2e-7),
        "alignment": series(0.2, -0.05, 0.1), "eval_return": rising(20, 200),
        "eval_return_again": rising(20, 200), "repeat_gap": [(0, 0.0)], "critic_change": series(0.1, 0.2),
        "target_change": rising(0.0, 3.0), "approx_kl": series(0.01, 0.0, 0.03),
        "descended": series(1, 1, 1, 0), "return_bound": series(5.0), "q_mean": rising(0.0, 5.2),
        "explained_variance": rising(-0.5, 0.9),
        "loss_tokens": series(900, 950), "completion_tokens": series(900, 950), "kl_ref": rising(0.0, 0.4),
        "kl_penalty": series(-0.2, 0.01, -0.1), "entropy": rising(0.69, 0.3), "return": rising(20, 200),
        "value_loss": series(0.3), "grad_norm": series(1.0), "clip_fraction": series(0.1),
    }  # fmt: skip


BROKEN = [  # (bug, the metrics that give it away, the least score)
    ("merged_time_limit", {"gap_truncated": series(0.9)}, 0.9),
    ("merged_time_limit", {"gap_truncated": series(0.0, -0.9)}, 0.9),
    ("bootstraps_past_the_end", {"gap_terminated": series(0.0, 0.5)}, 0.9),
    ("off_by_one", {"gap_inside": series(0.1), "gap_truncated": series(0.4)}, 0.9),
    ("missing_detach", {"constants_with_grad": series(1.0)}, 0.9),
    ("missing_detach", {"approx_kl": series(0.0), "return": series(20, 24)}, 0.3),
    ("stale_log_probs", {"first_ratio_gap": [(0, 0.0), *series(0.2)[1:]]}, 0.9),
    ("noisy_evaluation", {"eval_return_again": rising(20, 201)}, 0.9),
    ("unseeded_environment", {"repeat_gap": [(0, 1e-9)]}, 0.9),
    ("unmasked_after_eos", {"loss_tokens": series(1000)}, 0.9),
    ("unmasked_after_eos", {"loss_tokens": series(800)}, 0.9),
    ("dead_critic", {"critic_change": series(0.0)}, 0.9),
    ("dead_critic", {"explained_variance": series(-0.1, 0.01)}, 0.3),
    ("frozen_target", {"target_change": series(0.0)}, 0.9),
    ("trained_reference", {"kl_ref": series(0.0)}, 0.9),
    ("wrong_sign", {"alignment": series(-0.2, 0.05, -0.1)}, 0.8),
    ("wrong_sign", {"return": rising(25, 9)}, 0.3),
    ("kl_sign", {"kl_penalty": series(0.2, -0.01, 0.1)}, 0.8),
    ("reward_scale", {"return_bound": series(5000.0)}, 0.7),
    ("reward_scale", {"return_bound": series(0.005), "q_mean": series(0.0)}, 0.7),
    ("learning_rate_too_high", {"approx_kl": series(0.3, 0.9)}, 0.6),
    ("learning_rate_too_high", {"descended": series(1, 0, 0)}, 0.6),
    ("learning_rate_too_high", {"q_mean": rising(0.0, 12.0)}, 0.6),
    ("learning_rate_too_high", {"value_loss": [*series(1.0)[:20], *series(math.nan)[20:]]}, 0.6),
    ("learning_rate_too_high", {"entropy": [(0, 0.69), *series(0.001)[1:]]}, 0.3),
]


def check_rules(module) -> None:
    """Every rule of the module fires on its own metrics, alone, and with the evidence it is due."""
    assert module.diagnose(healthy()) == []
    assert module.diagnose(healthy() | {"approx_kl": series(0.0)}) == [], "one step a batch, and it learns"
    for bug, metrics, least in BROKEN:
        findings = module.diagnose(healthy() | metrics)
        assert [found.bug for found in findings] == [bug], (bug, findings)
        assert least <= findings[0].score < least + 0.1
        alone = module.diagnose(metrics)  # nothing else was logged: the same, or nothing, but nothing wrong
        assert [found.bug for found in alone] in ([bug], []), (bug, alone)


def test_each_rule_fires_on_what_it_is_for_and_no_other_does():
    check_rules(diagnosis)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("found.mean + SURE * found.standard_error >= 0", "found.mean - SURE * found.standard_error <= 0"),
        ("mean - SURE * found.standard_error <= 0", "mean + SURE * found.standard_error >= 0"),
        ("if abs(worst) <= limit:", "if worst <= limit:"),
        ("or any(metrics[name].values):", "or all(metrics[name].values):"),
        ("if first == second:", "if first <= second:"),
        ("if counted == written:", "if counted <= written:"),
        ("if low <= abs(size) <= high:", "if abs(size) <= high:"),
        ("down.mean <= 0.5 + down.standard_error", "down.mean >= 0.5 + down.standard_error"),
        ("if abs(q) > OVER * abs(bound):", "if abs(q) > abs(bound):"),
        ("(best := max(found.values)) > 0.05", "(best := min(found.values)) > 0.05"),
        ("if early > 0.05 * found.values[0]:", "if early < 0.05 * found.values[0]:"),
        ("if first - last <= max(", "if last - first <= max("),
        ("if last - first > SURE * error:", "if first - last > SURE * error:"),
        ('max(m["approx_kl"].values) > 1e-9', 'min(m["approx_kl"].values) > 1e-9'),
        ("if not math.isfinite(value):", "if math.isinf(value):"),
        ('return None if off_by_one(m) else zero(m, "gap_truncated"', 'return zero(m, "gap_truncated"'),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_noticed(old, new):
    with pytest.raises(AssertionError):
        check_rules(edited(diagnosis, Edit("", old, new, "a wrong rule")))


@pytest.mark.parametrize(
    ("bug", "metrics"),
    [
        ("wrong_sign", {"alignment": series(-0.3)}),
        ("kl_sign", {"kl_penalty": series(0.5)}),
        ("learning_rate_too_high", {"q_mean": series(1.0), "return_bound": series(0.0)}),
        ("learning_rate_too_high", {"approx_kl": series(1e308)}),
        ("learning_rate_too_high", {"descended": series(-1e308, 1e308)}),
    ],
)
def test_numbers_that_are_all_equal_or_enormous_are_judged_too(bug, metrics):
    """Their standard error is 0, or their sum no float."""
    found = {finding.bug: finding.score for finding in diagnosis.diagnose(metrics)}
    assert 0.6 <= found[bug] < 0.9


def test_proof_ranks_above_bounds_and_bounds_above_symptoms():
    metrics = healthy() | {
        "explained_variance": series(0.0),
        "approx_kl": series(2.0),
        "repeat_gap": [(0, 1.0)],
    }
    found = diagnosis.diagnose(metrics)
    assert [one.bug for one in found] == ["unseeded_environment", "learning_rate_too_high", "dead_critic"]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert all(one.evidence for one in found)


@pytest.mark.parametrize("metrics", [{}, {"loss": series(1.0)}, {"return": [(0, 20.0)]}, {"approx_kl": []}])
def test_a_rule_without_its_metric_says_nothing(metrics):
    assert diagnosis.diagnose(metrics) == []
    assert set(diagnosis.not_logged({})) == set(diagnosis.DIAGNOSTICS)


def test_each_metric_alone_raises_no_alarm():
    for name, rows in healthy().items():
        assert diagnosis.diagnose({name: rows}) == [], name
        assert diagnosis.diagnose({name: rows[:1]}) == [], name


def test_other_lessons_names_are_understood_learner_by_learner():
    metrics = {"ours_kl": series(0.01), "ours_return": rising(9, 500), "ours_cpu_seconds": series(1.0)}
    ours, no_clip = names.learners_of(metrics | {"no_clip_kl": series(3.0)})
    assert (ours.name, sorted(ours.metrics)) == ("ours", ["approx_kl", "return"])
    assert (no_clip.name, sorted(no_clip.metrics)) == ("no_clip", ["approx_kl"])
    assert diagnosis.diagnose(ours.metrics) == []
    assert diagnosis.diagnose(no_clip.metrics)[0].bug == "learning_rate_too_high"


# What a learner logs about itself


def check_diagnostics(module) -> None:
    torch.manual_seed(0)
    rewards, values, next_values = torch.randn(3, 30, 4, dtype=torch.float64)
    terminated, truncated = torch.rand(2, 30, 4) < 0.2
    advantages = torch.zeros(30, 4, dtype=torch.float64)
    for n in range(4):
        running = 0.0
        for t in reversed(range(30)):
            end = bool(terminated[t, n])
            target = float(rewards[t, n]) + (0.0 if end else 0.9 * float(next_values[t, n]))
            running = target - float(values[t, n]) + (0.0 if end or truncated[t, n] else 0.72 * running)
            advantages[t, n] = running
    data = (rewards, values, next_values, terminated, truncated, 0.9, 0.8)
    assert module.gae_residual(advantages, *data).abs().max() < 1e-12
    error = torch.rand(30, 4) + 0.1
    found = module.gaps(error, torch.tensor(2.0), terminated, truncated)
    places = {"terminated": terminated, "truncated": truncated & ~terminated}
    for name, where in {**places, "inside": ~(terminated | truncated)}.items():
        assert math.isclose(found[f"gap_{name}"], float(error[where].mean()) / 2, rel_tol=1e-5)
        # in units, whatever those are
        small = module.gaps(1e-12 * error, torch.tensor(2e-12), terminated, truncated)
        assert math.isclose(small[f"gap_{name}"], found[f"gap_{name}"], rel_tol=1e-5)
        assert module.gaps(error, torch.tensor(0.0), terminated, truncated)[f"gap_{name}"] > 0
    assert "gap_terminated" not in module.gaps(error, torch.tensor(1.0), terminated & False, truncated)

    a, b = torch.randn(2, 50)
    assert math.isclose(module.alignment(a, b), np.corrcoef(a, b)[0, 1], abs_tol=1e-9)
    assert module.alignment(a, 2 * a) == pytest.approx(1)
    assert module.alignment(a, torch.zeros(50)) == 0
    rows = {"loss": [(0, 1.0), (1, 2.0)], "kl": [(0, math.nan)]}
    assert module.repeat_gap(rows, rows) == 0
    assert module.repeat_gap(rows, {"loss": [(0, 1.5)], "kl": [(0, math.nan)], "other": [(0, 9.0)]}) == 0.5
    residue = float(((b - a) - (b - a).mean()).square().mean() / (b - b.mean()).square().mean())
    assert math.isclose(module.explained_variance(a, b), 1 - residue, rel_tol=1e-5)
    assert module.explained_variance(a, torch.ones(50)) == 0
    for unit in (1e-8, 1.0, 1e8):
        assert module.explained_variance(unit * a, unit * b) == pytest.approx(1 - residue, rel=1e-4)
        assert module.alignment(unit * a, 1e-8 * b) == pytest.approx(np.corrcoef(a, b)[0, 1])
        equal = torch.full((1023,), 0.7 * unit)  # of whose mean nothing but rounding is left
        assert module.explained_variance(torch.arange(1023.0), equal) == 0
        assert module.alignment(torch.arange(1023.0), equal.double() / 3) == 0


def test_what_a_learner_logs_is_what_it_is_called():
    check_diagnostics(diagnostics)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("later * ~(terminated | truncated)", "later * ~terminated"),
        ("next_values * ~terminated - values", "next_values - values"),
        ("later[-1] = 0.0", "pass"),
        ("residual.abs() /", "residual.abs() *"),
        ("truncated & ~terminated", "truncated"),
        ("(returns - values).var", "(returns + values).var"),
        ("[abs(first - second) for", "[first - second for"),
        ("surprise @ log_ratio / norms", "-(surprise @ log_ratio) / norms"),
        ("values.double() - values.double().mean()", "values.double()"),
    ],
)
def test_a_wrong_diagnostic_is_noticed(old, new):
    with pytest.raises(AssertionError):
        check_diagnostics(edited(diagnostics, Edit("", old, new, "a wrong diagnostic")))


# The zoo


def test_every_bug_is_planted_in_each_of_its_homes_and_known_to_a_rule():
    assert set(evidence.BUGS) == set(diagnosis.CATALOGUE) == {bug for bug, _, _ in BROKEN}
    assert len(evidence.BUGS) >= 10
    for learner, bug in evidence.PAIRS:
        assert evidence.module_of(learner, bug), (learner, bug)
    for bug in E3.BUGS:
        assert bug in EDITS
        assert "no_alarm" in EDITS[bug].fails
    assert set(ANSWERS) >= {entry.probe for entry in diagnosis.CATALOGUE.values() if entry.probe}


@pytest.mark.parametrize("module", [E3_dqn, E3_text], ids=["dqn", "text"])
def test_the_other_learners_edits_fit_and_say_what_they_do(module):
    for edit in module.EDITS.values():
        assert edited(module, edit)
        assert edit.says


TINY = E3.Config(seed=3, num_updates=3, num_envs=4, num_steps=32, minibatch_size=32)
SHORT = evidence.Config(run_length=0.07)
AT_ONCE = {"missing_detach", "stale_log_probs", "unseeded_environment", "off_by_one", "unmasked_after_eos",
           "trained_reference", "reward_scale"}  # fmt: skip
EARLY = [pair for pair in evidence.PAIRS if pair[0] in ("ppo", "text") and pair[1] in AT_ONCE]


@pytest.mark.parametrize(("learner", "bug"), EARLY)
def test_a_few_updates_give_an_identity_away(learner, bug):
    rows, _ = evidence.run_one(TINY, SHORT, learner, bug)
    assert diagnosis.diagnose(rows)[0].bug == bug


@pytest.mark.parametrize("learner", evidence.LEARNERS)
def test_a_few_healthy_updates_break_no_identity_and_repeat_to_the_bit(learner):
    rows, _ = evidence.run_one(TINY, SHORT, learner)
    assert [found for found in diagnosis.diagnose(rows) if found.score >= diagnosis.IDENTITY] == []
    again, _ = evidence.run_one(TINY, SHORT, learner)
    assert json.dumps(rows) == json.dumps(again)


def test_scores_are_taken_at_multiples_and_after_the_last_update():
    cfg = replace(TINY, num_updates=5, check_every=2)
    rows, _ = evidence.run_one(cfg, replace(SHORT, run_length=1.0), "ppo")
    assert [step + 1 for step, _ in rows["eval_return"]] == [2, 4, 5]
    rows = {}
    E3_dqn.train(E3_dqn.Settings(num_updates=5, check_every=2), rows, make_envs("CartPole-v1", 2))
    assert [step + 1 for step, _ in rows["eval_return"]] == [2, 4, 5]


def test_the_lesson_and_its_evidence_run_ppo_alike():
    """What `main` hands over is what the evidence would have measured itself."""
    for bug in ("none", "unseeded_environment"):
        module = E3.broken(bug) if bug != "none" else E3
        rows, _ = evidence.run_one(TINY, SHORT, "ppo", bug)
        assert json.dumps(E3.run(module.train, TINY)) == json.dumps(rows)


def test_one_bug_at_a_time_leaves_a_log_for_rl_diagnose(tmp_path):
    log = RunLog(tmp_path / "E3" / "20261120-093000-seed3", "E3")
    E3.main(replace(TINY, bug="stale_log_probs"), log)
    log.close()
    lines = list(report(log.folder))
    assert lines[1].startswith("1. stale_log_probs")
    assert {claim.name: claim.value for claim in log.claims}["ppo_bugs_named"] == 1


@pytest.mark.parametrize(("learner", "num_updates"), [("ppo", 8), ("dqn", 40)])
def test_merged_time_limits_are_seen_where_nothing_else_ends(learner, num_updates):
    for bug, wrong in (("none", False), ("merged_time_limit", True)):
        rows = {}
        settings = evidence.settings_of(learner, TINY, SHORT)
        settings = replace(settings, num_updates=num_updates, check_every=0, num_envs=4)
        evidence.module_of(learner, bug).train(settings, rows, make_envs("ProbeEndless-v0", 4))
        assert "gap_terminated" not in rows
        assert (max(value for _, value in rows["gap_truncated"]) > 0.1) == wrong
        assert max(value for _, value in rows["gap_inside"]) < 1e-5


def test_the_right_learner_solves_the_probe_that_the_broken_one_fails():
    cfg, half = E3.Config(seed=5), evidence.Config(run_length=0.5)
    for bug in ("merged_time_limit", "wrong_sign"):
        probe = diagnosis.CATALOGUE[bug].probe
        assert not evidence.fails(cfg, half, "ppo", "none", probe)
        assert evidence.fails(cfg, half, "ppo", bug, probe)


# PPO for tokens


def check_first_end(first_end):
    torch.manual_seed(2)
    for size, length in ((1, 1), (2, 3), (7, 2), (20, 5)):
        ids = torch.randint(0, 3, (size, length))
        found = first_end(ids)
        assert found.dtype == torch.bool
        for b in range(size):
            ended = False
            for t in range(length):
                assert found[b, t] == (not ended), "the end itself counts, what stands behind it does not"
                ended = ended or int(ids[b, t]) == 0


def test_the_first_end_of_text_is_the_last_token_that_counts():
    check_first_end(E3_text.first_end)
    for old, new in (
        ("ends.cumsum(dim=1) - ends == 0", "ends.cumsum(dim=1) == 0"),
        ("cumsum(dim=1)", "cumsum(dim=0)"),
    ):
        with pytest.raises(AssertionError):
            check_first_end(edited(E3_text, Edit("first_end", old, new, "a wrong end")).first_end)


def test_tables_answer_like_the_policy_that_they_belong_to():
    learner = E3_text.TextLearner(E3.Config(num_envs=8), fresh_seed=1)
    torch.nn.init.normal_(learner.agent.policy.table)
    torch.nn.init.normal_(learner.agent.policy.value_table)
    rows = {}
    batch = learner.batch(rows, 0)
    text = torch.cat(
        [learner.world.prompt_ids.repeat(4, 1), learner.write(learner.world.prompt_ids.repeat(4, 1))], 1
    )
    out = learner.agent.policy(text)
    prefixes = learner.agent.policy.prefix_rows(text)[:, :-1]
    log_probs, _ = learner.agent.judge(prefixes.flatten(), text[:, 1:].flatten())
    expected = out.logits[:, :-1].log_softmax(-1).gather(2, text[:, 1:, None])[..., 0]
    torch.testing.assert_close(log_probs.view_as(expected), expected)
    torch.testing.assert_close(learner.agent.value(prefixes), out.values[:, :-1])
    assert len(batch["obs"]) == rows["loss_tokens"][0][1] == rows["completion_tokens"][0][1]


# rl diagnose


def a_run(root, metrics: dict, name: str = "20261120-093000-seed0"):
    folder = root / "E3" / name
    log = RunLog(folder, "E3")
    for metric, rows in metrics.items():
        for step, value in rows:
            log.write(step, **{metric: value})
    log.close()
    (folder / "run.json").write_text('{"status": "passed"}', encoding="utf-8")
    return folder


def test_a_run_is_found_by_path_by_name_and_by_lesson(tmp_path):
    first = a_run(tmp_path, healthy())
    second = a_run(tmp_path, healthy(), "20261120-093001-seed0")
    os.utime(second / "run.json", (2e9, 2e9))
    assert run_folder(str(first), tmp_path) == first
    assert run_folder("E3/20261120-093000-seed0", tmp_path) == first
    assert run_folder("e3", tmp_path) == second
    no_metrics = ((str(tmp_path), "holds no log"), ("", "holds no log"))
    for wrong, says in (("E3/none", "is no run"), ("E0", "is no run"), ("B1", "no run of B1"), *no_metrics):
        with pytest.raises(UsageError, match=says) as error:
            run_folder(wrong, tmp_path)
        assert "\n" not in str(error.value)


def test_the_report_ranks_names_the_evidence_and_says_what_is_missing(tmp_path):
    metrics = healthy() | {"repeat_gap": [(0, 0.5)], "approx_kl": series(2.0)}
    del metrics["kl_ref"]
    lines = list(report(a_run(tmp_path, metrics)))
    assert lines[1].startswith("1. unseeded_environment (0.9")
    assert "repeat_gap reached 0.5" in lines[2]
    assert any(line.startswith("2. learning_rate_too_high") for line in lines)
    assert lines[-2:] == ["not logged, and so not judged:", "   kl_ref"]


def test_a_healthy_run_raises_no_alarm_and_an_empty_one_says_so(tmp_path):
    lines = list(report(a_run(tmp_path, healthy())))
    assert lines[1] == "no alarm (of 20 faults this log could have shown 17)"
    assert not any(line.startswith("not logged") for line in lines)
    lines = list(report(a_run(tmp_path / "other", {"speed": series(1.0)})))
    assert lines[1].startswith("nothing to go on: no name in it is known; log these: return, ")


def test_files_edited_by_hand_or_torn_are_read_or_refused_in_a_line(tmp_path):
    folder = a_run(tmp_path, {"approx_kl": series(0.01)})
    path = folder / "metrics.jsonl"
    path.write_text(
        '{"step": 0, "approx_kl": "high", "return": null, "entropy": 0.5}\n{"step": 1, "entr', "utf-8"
    )
    assert metrics_of(folder)["entropy"] == [(0, 0.5)]
    assert metrics_of(folder)["approx_kl"] == []
    assert list(report(folder))
    for wrong in ('{"approx_kl": 1.0}\n', "[1, 2]\n", "7\n"):
        path.write_text(wrong, "utf-8")
        with pytest.raises(UsageError, match="cannot be read"):
            metrics_of(folder)


def test_the_command_line(tmp_path):
    folder = a_run(tmp_path, healthy() | {"gap_truncated": series(1.0)})
    code = """
import sys
from chapters.course.cli import main
try:
    main()
finally:
    print([name for name in ("torch", "numpy") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "diagnose", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "1. merged_time_limit" in done.stdout
    assert done.stdout.strip().endswith("[]"), "no heavy import"
    wrong = subprocess.run([*RL, "diagnose", "E3/none"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: E3/none is no run")
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_a_run_that_is_never_evaluated_is_refused():
    """Its score is claimed; only the short repetition of a run goes without."""
    with pytest.raises(UsageError, match=r"--check-every 0 is out of range \(allowed: 1 to"):
        check_ranges(replace(TINY, check_every=0))


def test_returns_of_tokens_are_the_score_less_the_penalties_still_to_come():
    """Of the tokens of one completion, by hand; each costs beta times its own log-ratio."""
    torch.manual_seed(0)
    learner = E3_text.TextLearner(E3.Config(num_envs=8), fresh_seed=1)
    policy, rows = learner.agent.policy, {}
    with torch.no_grad():
        policy.table += 0.3 * torch.randn_like(policy.table)
        policy.value_table += torch.randn_like(policy.value_table)
    generator = learner.generator.get_state()
    batch = learner.batch(rows, 0)
    learner.generator.set_state(generator)
    prompt_ids = learner.world.prompt_ids.repeat(8 // learner.world.num_prompts, 1)
    with torch.no_grad():
        written = learner.write(prompt_ids)
        scores = learner.cfg.reward_scale * learner.world.reward(prompt_ids, written)
        own, ref = (
            model.table.log_softmax(dim=-1)[batch["obs"], batch["actions"]]
            for model in (policy, learner.reference)
        )
    assert (own - ref).abs().max() > 0.1
    place = 0
    for row, score in zip(written, scores):
        length = next((t + 1 for t, token in enumerate(row) if token == E3_text.EOS), len(row))
        for t in range(length):
            penalty = E3_text.BETA * (own - ref)[place + t : place + length].sum()
            assert batch["returns"][place + t] == pytest.approx(float(score - penalty), abs=1e-5)
        place += length
    assert place == len(batch["returns"])
    torch.testing.assert_close(batch["advantages"], batch["returns"] - batch["values"])


def test_the_wrong_sign_needs_eight_small_updates_and_no_more():
    def with_updates(count):
        return {"alignment": diagnosis.Series("alignment", list(range(count)), [-0.3, -0.31] * (count // 2))}

    assert diagnosis.wrong_sign(with_updates(8)).bug == "wrong_sign"
    assert diagnosis.wrong_sign(with_updates(6)) is None


def test_a_return_that_rose_beyond_its_noise_clears_a_still_policy(monkeypatch):
    still = {"approx_kl": diagnosis.Series("approx_kl", [0, 1], [0.0, 0.0])}
    for rise, suspected in ((20.0, True), (40.0, False)):
        monkeypatch.setattr(diagnosis, "trend", lambda m, rise=rise: (100.0, 100.0 + rise, 10.0))
        assert (diagnosis.never_moves(still) is not None) == suspected


def test_the_first_suspect_has_its_number_and_none_has_0():
    found = [SimpleNamespace(bug="second"), SimpleNamespace(bug="first")]
    assert E3_zoo.first_suspect(found, ["none", "first", "second"]) == 2
    assert E3_zoo.first_suspect([], ["none", "first", "second"]) == 0


def test_what_no_rule_reads_is_listed():
    learners = [names.Learner("", sources={"approx_kl": "train/approx_kl"})]
    metrics = {"train/approx_kl": [], "train/fps": [], "moon": []}
    assert names.unread(metrics, learners) == ["train/fps", "moon"]
