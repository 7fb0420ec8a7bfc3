"""D12's servers, schedule, ends and processes on known cases; what it says of TRL, read in TRL's source."""

import ast
import dataclasses
import importlib.metadata
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch

from chapters.D_rlhf import D12_stale_samples as lesson
from chapters.D_rlhf.checks.D12 import EDITS, scores_by_autograd, update_is_right
from chapters.D_rlhf.evidence import D12 as evidence
from chapters.D_rlhf.evidence import D12_processes as remote
from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.text.serving import AdaptedPolicy, Sampler, Server, best_adapter, scores, share
from chapters.text.tasks import log_probs_of
from chapters.utils import RunLog
from chapters.utils.edits import edited

EXACT = {"noise": 0.0, "temperature": 1.0}
SMALL = {"num_symbols": 3, "length": 3}


def moved(world, seed=0):
    """An adapted policy that is not the reference."""
    policy = AdaptedPolicy(world)
    generator = torch.Generator().manual_seed(seed)
    policy.table.data += 0.5 * torch.randn(policy.table.shape, generator=generator, dtype=torch.float64)
    return policy


def test_an_adapter_of_zeros_is_the_reference_and_a_row_belongs_to_the_last_token():
    world = token_world(1, **SMALL)
    policy, batch = AdaptedPolicy(world), tasks.every_completion(world)
    torch.testing.assert_close(log_probs_of(policy, batch), batch["ref_log_probs"])
    policy.table.data[2, 1] = 0.7
    text = torch.tensor([[world.num_symbols + 1, 1, 2, 2], [world.num_symbols + 2, 2, 1, 1]])
    change = policy(input_ids=text).logits - policy.reference(text).logits
    expected = torch.zeros_like(change)
    expected[0, 2:, 1] = expected[1, 1, 1] = 0.7
    torch.testing.assert_close(change, expected)


def test_a_server_without_faults_is_the_policy_and_each_fault_is_what_it_says():
    world = token_world(2, **SMALL)
    policy, batch = moved(world), tasks.every_completion(world)
    cfg = dataclasses.replace(lesson.Config(), **EXACT)
    ours = log_probs_of(policy, batch)
    torch.testing.assert_close(log_probs_of(Server(policy, world, cfg), batch), ours)
    text = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    plain = policy(input_ids=text).logits[:, :-1]
    chosen = batch["completion_ids"][..., None]
    wanted = {
        "temperature": (2.0, plain / 2.0),
        "rounding": ("bfloat16", plain.bfloat16().double()),
    }
    for field, (value, logits) in wanted.items():
        server = Server(policy, world, dataclasses.replace(cfg, **{field: value}))
        expected = logits.log_softmax(-1).gather(-1, chosen)[..., 0] * batch["completion_mask"]
        torch.testing.assert_close(log_probs_of(server, batch), expected)
    noisy = Server(policy, world, dataclasses.replace(cfg, noise=0.4))
    assert noisy.noise.std() == pytest.approx(0.4, rel=0.3)
    first, again = log_probs_of(noisy, batch), log_probs_of(noisy, batch)
    assert torch.equal(first, again), "the noise does not average out"
    assert not torch.allclose(first, ours)


@torch.no_grad()
def test_what_a_server_writes_is_what_it_says_it_writes():
    """Frequencies of 40,000 sampled texts against the log-probabilities that come with them."""
    cfg = lesson.Config(group_size=20_000)
    world = token_world(0, **lesson.WORLD)
    sampler = Sampler(world, cfg)
    sampler.ask(np.zeros((4, 4)))
    batch = {name: torch.from_numpy(values) for name, values in sampler.answer().items()}
    every = tasks.every_completion(world)
    probs = log_probs_of(sampler.server, every).sum(dim=1).exp().view(2, -1)
    rows = world.rows(batch["completion_ids"])
    own = batch["sampler_log_probs"].sum(dim=1).exp()
    for n in range(2):
        mine = slice(n * cfg.group_size, (n + 1) * cfg.group_size)
        torch.testing.assert_close(own[mine], probs[n, rows[mine]])
        counts = torch.bincount(rows[mine], minlength=probs.shape[1]).double()
        error = (probs[n] * (1 - probs[n]) / cfg.group_size).sqrt()
        assert ((counts / cfg.group_size - probs[n]).abs() < 5 * error + 1e-4).all()


@pytest.mark.parametrize("lag", [0, 1, 3, 9])
def test_each_batch_is_written_by_the_weights_of_lag_updates_ago(lag, tmp_path, monkeypatch):
    cfg, log = lesson.Config(group_size=2, num_updates=6, lag=lag), RunLog(tmp_path, "D12")
    tables, asked = [], []

    class Spy(Sampler):
        def ask(self, table):
            asked.append(table)
            super().ask(table)

    def update(policy, *_):
        tables.append(policy.table.detach().numpy().copy())
        policy.table.data += 1.0
        return 1.0

    monkeypatch.setattr(lesson, "update", update)
    lesson.train(cfg, log, "x", Spy(token_world(0, **lesson.WORLD), cfg))
    log.close()
    assert len(asked) == cfg.num_updates
    for i, table in enumerate(asked):
        np.testing.assert_array_equal(table, tables[max(0, i - lag)])


def test_bias_and_spread_are_counted_in_norms_of_the_exact_gradient(monkeypatch):
    """An estimate that is always 0 is off by one norm; another is right on average and spreads."""
    cfg, world = lesson.Config(), token_world(0, **lesson.WORLD)
    policy = world.reference(torch.float64)
    with torch.no_grad():
        policy.table += 0.1
        policy.table[..., 0] += 1.0
    exact = torch.autograd.grad(world.objective(world.log_probs(policy), cfg.beta), policy.table)[0].flatten()
    for mean, variance, bias, spread in (
        (0.0 * exact, 0.0, 1.0, 0.0),
        (exact, 9.0, 0.0, 3.0 / exact.norm().item()),
        (3.0 * exact, -1e-18, 2.0, 0.0),
    ):
        monkeypatch.setattr(lesson, "moments", lambda *_, found=(mean, variance): found)
        assert lesson.bias_and_spread(world, policy, policy, cfg) == pytest.approx((bias, spread))


def test_every_mismatch_is_measured_for_every_estimator_at_its_own_step(tmp_path, monkeypatch):
    """Noise and temperature in hundredths; rounding by what is added to each logit, in bfloat16."""
    world = token_world(0, **lesson.WORLD)
    log, found = RunLog(tmp_path, "D12"), []
    log.keep(world=world, midway=AdaptedPolicy(world))

    def measured(_, policy, old, cfg):
        assert policy is old
        found.append((cfg.noise, cfg.temperature, cfg.rounding))
        return policy.reference.table.mean().item(), 1.0

    monkeypatch.setattr(lesson, "bias_and_spread", measured)
    evidence.mismatches(lesson.Config(), log)
    level = log.kept["midway"].reference.table.mean().item()
    for name in lesson.LABELS:
        assert log.series(f"noise_bias_{name}")[0] == [0, 10, 25, 50, 100]
        assert log.series(f"temperature_bias_{name}")[0] == [50, 70, 100, 140, 200]
        steps, levels = log.series(f"rounding_bias_{name}")
        assert steps == [0, 8, 32, 128]
        assert levels == pytest.approx([level + step for step in steps])
    others = [(noise, 1.0, "float64") for noise in evidence.NOISES]
    others += [(0.0, temperature, "float64") for temperature in evidence.TEMPERATURES]
    others += [(0.0, 1.0, "bfloat16") for _ in evidence.OFFSETS]
    assert found == [case for case in others for _ in lesson.LABELS]


def test_where_they_end():
    """A walk over a noisy server's texts: sequence weights reach the best adapter, none do not."""
    cfg = lesson.Config(num_updates=120, noise=1.0)
    world = token_world(0, **lesson.WORLD)
    best = best_adapter(world, cfg.beta)
    found = {}
    for name in ("sequence", "none"):
        end, left = lesson.exact_end(world, dataclasses.replace(cfg, **lesson.settings(name)))
        found[name] = share(world, end, best, cfg.beta)
        assert left < 0.2
    assert 0.998 < found["sequence"] <= 1.0 + 1e-9
    assert found["none"] < 0.99


def test_the_best_adapter_is_the_best():
    """Its gradient is 0, no step from it is better, and plain climbing gets there from elsewhere."""
    world, beta = token_world(1, **SMALL), 0.4
    best = best_adapter(world, beta)
    most = world.objective(world.log_probs(best), beta)
    (slope,) = torch.autograd.grad(most, best.table)
    assert slope.norm() < 1e-6
    for seed in range(5):
        other = moved(world, seed)
        for table in (other.table.detach(), best.table.detach() + 0.1 * other.table.detach()):
            other.table.data.copy_(table)
            assert world.objective(world.log_probs(other), beta) < most
    for _ in range(400):
        (slope,) = torch.autograd.grad(world.objective(world.log_probs(other), beta), other.table)
        other.table.data += 2.0 * slope
    assert share(world, other, best, beta) == pytest.approx(1.0, abs=1e-3)
    assert share(world, AdaptedPolicy(world), best, beta) == pytest.approx(0.0, abs=1e-12)


def test_the_exact_walk_uses_the_weights_of_lag_updates_ago(monkeypatch):
    world, seen = token_world(0, **lesson.WORLD), []
    cfg = dataclasses.replace(lesson.Config(), **EXACT, lag=2, num_updates=5)
    right = lesson.moments

    def moments(policy, sampler, batch, world, cfg):
        seen.append((log_probs_of(policy, batch).detach(), sampler))
        return right(policy, sampler, batch, world, cfg)

    monkeypatch.setattr(lesson, "moments", moments)
    lesson.exact_end(world, cfg)
    for i, (_, sampler) in enumerate(seen):
        torch.testing.assert_close(sampler, seen[max(0, i - 2)][0])


def test_scores_are_those_of_autograd():
    """For an adapter, and for a table with a row for each prefix."""
    world = token_world(1, num_symbols=3, length=2)
    batch = tasks.every_completion(world)
    for policy in (moved(world), world.reference(torch.float64)):
        torch.testing.assert_close(scores(policy, batch), scores_by_autograd(policy, batch))


def test_an_update_is_a_step_along_the_gradient_written_out():
    update_is_right(lesson.update)


OF_UPDATE = ("numbers_recomputed", "clip_from_here", "mean_of_no_group", "padding_learnt")


@pytest.mark.parametrize("name", OF_UPDATE)
def test_an_update_with_an_error_is_no_such_step(name):
    with pytest.raises(AssertionError):
        update_is_right(edited(lesson, EDITS[name]).update)


def test_a_cap_below_every_ratio_and_one_above():
    ratios = torch.tensor([[0.5, 3.0]]).log()
    mask = torch.ones(1, 2, dtype=torch.bool)
    zero = torch.zeros(1, 2)
    for kind in ("token_truncated", "token_masked"):
        assert lesson.weights(ratios, zero, mask, kind, 1e9)[0].tolist() == pytest.approx([0.5, 3.0])
    assert lesson.weights(ratios, zero, mask, "token_masked", 1.0)[0].tolist() == pytest.approx([0.5, 0.0])


def test_the_divergence_and_the_mean_square_are_sums_over_texts():
    world = token_world(3, **SMALL)
    policy, cfg = moved(world), lesson.Config(noise=0.7)
    server = Server(policy, world, cfg)
    with torch.no_grad():
        batch = tasks.every_completion(world)
        ours, theirs = (log_probs_of(one, batch).sum(1).view(2, -1) for one in (policy, server))
    kl, square = evidence.divergence(world, policy, server)
    assert kl == pytest.approx(float((ours.exp() * (ours - theirs)).sum(1).mean()), rel=1e-9)
    assert square == pytest.approx(float((theirs.exp() * (ours - theirs).exp() ** 2).sum(1).mean()), rel=1e-9)


def test_a_shift_of_all_logits_changes_no_policy_until_it_is_rounded():
    world = token_world(3, **SMALL)
    policy, batch = moved(world), tasks.every_completion(world)
    far = evidence.shifted(policy, 64.0)
    torch.testing.assert_close(log_probs_of(far, batch), log_probs_of(policy, batch))
    cfg = dataclasses.replace(lesson.Config(), **EXACT, rounding="bfloat16")
    off = [
        (log_probs_of(Server(one, world, cfg), batch) - log_probs_of(policy, batch)).abs().max()
        for one in (policy, far)
    ]
    assert off[1] > 10 * off[0] > 0


def test_the_shortest_time_by_hand():
    """Lag 0: in turns. Lag 1: the next batch is begun at once, and written meanwhile."""
    sampling = np.array([2.0, 2.0, 2.0])
    assert remote.shortest_time(sampling, 3.0, 0) == pytest.approx(15.0)
    assert remote.shortest_time(sampling, 3.0, 1) == pytest.approx(2.0 + 3 * 3.0)
    assert remote.shortest_time(np.array([1.0, 9.0, 1.0]), 3.0, 1) == pytest.approx(1 + 9 + 3 + 3)
    assert remote.shortest_time(sampling, 0.5, 5) == pytest.approx(3 * 2.0 + 0.5)


def test_a_dead_process_is_told_and_a_closed_one_is_gone():
    sampler = remote.RemoteSampler(Sampler, dataclasses.asdict(lesson.Config(group_size=2)))
    sampler.process.kill()
    with pytest.raises(RuntimeError, match="has ended"):
        sampler.answer()
    sampler.close()
    assert not sampler.process.is_alive()


CHILD = """
import dataclasses, sys, time
from chapters.text.serving import Sampler
from chapters.D_rlhf import D12_stale_samples as lesson
from chapters.D_rlhf.evidence import D12_processes as remote
if __name__ == "__main__":
    sampler = remote.RemoteSampler(Sampler, dataclasses.asdict(lesson.Config(group_size=2)))
    print(sampler.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of a POSIX system")
def test_a_killed_parent_leaves_no_process(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(CHILD, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 120
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.2)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def defaults(name):
    """{field: default} of a class in an installed file of TRL, read without importing it."""
    path = importlib.metadata.distribution("trl").locate_file(name)
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
            given = {word.arg: word.value for word in node.value.keywords}
            if "default" in given:
                found[node.target.id] = ast.literal_eval(given["default"])
    return found


def test_what_the_lesson_says_of_trl():
    assert importlib.metadata.version("trl") == "1.12.0"
    found = defaults("trl/trainer/grpo_config.py")
    assert found["vllm_importance_sampling_correction"] is True
    assert found["vllm_importance_sampling_mode"] == "sequence_mask"
    assert found["vllm_importance_sampling_clip_max"] == 3.0
    assert found["vllm_importance_sampling_clip_min"] is None
    assert found["epsilon"] == 0.2
    path = importlib.metadata.distribution("trl").locate_file("trl/trainer/grpo_trainer.py")
    source = path.read_text(encoding="utf-8")
    weighed = source.index('per_token_loss = per_token_loss * inputs["importance_sampling_ratio"]')
    penalised = source.index("per_token_loss = per_token_loss + self.beta * per_token_kl")
    assert weighed < penalised, "the penalty is added after the weights"
    assert "(old_per_token_logps - sampling_per_token_logps) * mask" in source
