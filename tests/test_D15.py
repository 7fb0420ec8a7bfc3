"""D15's learners on a small token world: where they end, where they must end, and wrong once edited."""

import dataclasses
import types

import pytest
import torch
from spies import watch_adam

from chapters.D_rlhf import D15_kl_penalty_placement as lesson
from chapters.D_rlhf.checks.D15 import EDITS
from chapters.D_rlhf.evidence import D15 as evidence
from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.seeding import seed_everything

WORLD = {"num_symbols": 4, "length": 3}


def gap_closed(module, folder, **changes):
    """Share of the gap to the exact optimum that a short sampled run closes on a small world."""
    seed_everything(0)
    world = token_world(0, **WORLD)
    cfg = dataclasses.replace(module.Config(), group_size=32, num_updates=150, **changes)
    log = RunLog(folder, "D15")
    policy = module.train(world, cfg, log, "quick")
    log.close()
    return world.gap_closed(world.log_probs(policy), cfg.beta)


def test_the_penalty_in_the_reward_finds_the_optimum(tmp_path):
    assert gap_closed(lesson, tmp_path, **lesson.IN_REWARD) > 0.9


def test_so_does_rloo(tmp_path):
    rloo = edited(lesson, EDITS["leave_one_out"])
    assert gap_closed(rloo, tmp_path, **lesson.IN_REWARD) > 0.9


@pytest.mark.parametrize("name", ["reward_for_leaving", "reference_trains_along"])
def test_an_edited_learner_misses_the_optimum(name, tmp_path):
    assert not gap_closed(edited(lesson, EDITS[name]), tmp_path, **lesson.IN_REWARD) > 0.9


def test_the_published_form_rests_elsewhere_unless_the_penalty_is_in_the_reward():
    world = token_world(0, **WORLD)
    cfg = dataclasses.replace(lesson.Config(), num_updates=300)
    policy, left = lesson.fixed_point(world, cfg)
    assert left < 1e-3
    assert world.gap_closed(world.log_probs(policy), cfg.beta) < 0.95
    right, left = lesson.fixed_point(world, dataclasses.replace(cfg, **lesson.IN_REWARD))
    assert left < 1e-3
    assert world.gap_closed(world.log_probs(right), cfg.beta) > 0.999


def optimal_policy(world, beta):
    """The exact optimum as a table: each logit is the log of what its token's completions weigh."""
    policy, best = world.reference(torch.float64), world.optimum(beta).exp()
    weights = torch.zeros_like(policy.table)
    for n in range(world.num_prompts):
        for ids, mask, weight in zip(world.completion_ids, world.completion_mask, best[n]):
            prefix = torch.cat([world.prompt_ids[n], ids[mask]])[None]
            rows = policy.prefix_rows(prefix)[0, :-1]
            weights[rows, ids[mask]] += weight
    policy.table.data.copy_(weights.log())
    return policy


@pytest.mark.parametrize("average", ["completions", "tokens", "constant"])
@pytest.mark.parametrize("divide", [False, True])
def test_in_the_reward_neither_a_division_nor_an_average_moves_the_optimum(divide, average):
    """The expected update at the exact optimum is zero; with k3 in the loss it is not."""
    world, cfg = token_world(0, **WORLD), dataclasses.replace(lesson.Config(), divide=divide, average=average)
    policy, batch = optimal_policy(world, cfg.beta), tasks.every_completion(world)
    assert world.gap_closed(world.log_probs(policy), cfg.beta) == pytest.approx(1.0, abs=1e-12)
    norms = {}
    for place in ("reward", "loss"):
        changed = dataclasses.replace(cfg, kl_in=place)
        loss = lesson.expected_loss(policy, batch, world.rewards, changed)
        norms[place] = torch.autograd.grad(loss, policy.table)[0].norm()
    assert norms["reward"] < 1e-12
    assert norms["loss"] > 1e-3


@pytest.mark.parametrize(("kind", "beta"), [("k1", 0.5), ("k1", 5.0)])
def test_k1_in_the_loss_holds_nothing(kind, beta):
    """Its expected gradient is that of no penalty at all, whatever its weight."""
    world = token_world(1, **WORLD)
    batch = tasks.every_completion(world)
    policy = world.reference(torch.float64)
    policy.table.data += 0.3 * torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(0))
    slopes = []
    for weight in (beta, 0.0):
        cfg = dataclasses.replace(
            lesson.Config(), kl_kind=kind, beta=weight, average="constant", divide=False
        )
        loss = lesson.expected_loss(policy, batch, world.rewards, cfg)
        slopes.append(torch.autograd.grad(loss, policy.table)[0])
    assert torch.allclose(*slopes, atol=1e-12)


def test_values_and_deviations_are_those_of_all_completions():
    world = token_world(2, **WORLD)
    policy = world.reference(torch.float64)
    policy.table.data += 0.3 * torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(0))
    log_probs = world.log_probs(policy).detach()
    k1 = log_probs - world.reference_log_probs()
    probs = log_probs.exp() / world.num_prompts
    exact = (probs * (k1 - (probs * k1).sum()) ** 2).sum().sqrt()
    assert evidence.deviations(world, policy)["k1"] == pytest.approx(float(exact), rel=1e-9)
    found = evidence.all_estimates(world, policy)
    forward = (world.reference_log_probs().exp() * -k1).sum() / world.num_prompts
    assert found["forward"].item() == pytest.approx(float(forward), rel=1e-9)
    assert found["k3_ratio"].item() == pytest.approx(found["k3_tokens"].item(), rel=1e-9)


def test_seeds_make_worlds(tmp_path):
    rewards = [token_world(seed, **WORLD).rewards for seed in (0, 1)]
    assert not torch.allclose(*rewards)


def test_the_step_size_rises_stays_and_falls_and_gradients_are_clipped(tmp_path, monkeypatch):
    steps = watch_adam(monkeypatch, lesson)
    world, log = token_world(2, **WORLD), RunLog(tmp_path, "D15")
    cfg = dataclasses.replace(lesson.Config(), num_updates=20, learning_rate=0.1)
    lesson.train(world, cfg, log, "x")
    log.close()
    warm = next(i for i in range(20) if steps[i][0] == pytest.approx(0.1))
    rates = [rate for rate, _ in steps]
    assert rates[: warm + 1] == pytest.approx([0.1 * (i + 1) / (warm + 1) for i in range(warm + 1)])
    assert rates[12:] == pytest.approx([0.1 * (20 - i) / 8 for i in range(12, 20)]), "the last two fifths"
    assert rates[warm:12] == pytest.approx([0.1] * (12 - warm))
    assert max(norm for _, norm in steps) <= 1.0 + 1e-4
    assert log.series("x_reward")[0] == list(range(20))


def test_values_are_written_on_the_way_to_the_point(tmp_path):
    world = token_world(2, **WORLD)
    point, log = world.reference(torch.float64), RunLog(tmp_path, "D15")
    point.table.data += 0.5 * torch.randn(point.table.shape, generator=torch.Generator().manual_seed(0))
    evidence.write_values(world, point, log)
    log.close()
    steps, exact = log.series("kl_exact_mean")
    assert steps == list(range(len(evidence.SHARES)))
    assert exact[-1] == pytest.approx(world.kl(world.log_probs(point)).item(), rel=1e-6)
    assert exact == sorted(exact)
    assert 0 < exact[0] < 0.03 * exact[-1], "a tenth of the way: about a hundredth"
    assert log.series("kl_k1_mean")[1] == pytest.approx(exact), "k1 is right as a value"
    assert log.last("kl_k1_deviation") == pytest.approx(evidence.deviations(world, point)["k1"])


def test_a_learner_is_reported_where_it_ends(tmp_path):
    world, log = token_world(2, **WORLD), RunLog(tmp_path, "D15")
    log.keep(world=world)
    best = world.reference(torch.float64)

    def train(given, cfg, log, name):
        assert given is world
        assert name == "x"
        return best

    module = types.ModuleType("other")
    module.train = train
    evidence.learn(module, lesson.Config(), log, "x")
    log.close()
    assert log.last("gap_x") == pytest.approx(0.0, abs=1e-9)
    assert log.last("token_kl_x") == pytest.approx(0.0, abs=1e-9)
